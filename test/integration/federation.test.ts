import { expect, test } from 'vitest';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { startFederation, startShortRun, until } from '../fixtures/federation.ts';

const testTimeoutMs = 240_000;

test(
  'a run over three sites finishes with ranks that never rise, an accuracy and counted bytes',
  async () => {
    await using federation = await startFederation(3);

    await startShortRun(federation, { rounds: 3, quorum: 3 });
    const run = await until('the run to finish', async () => {
      const current = await federation.run();
      return current.status === 'finished' && current;
    });

    expect(run.done.map((round) => round.rank)).toEqual([4, 4, 2]);
    expect(
      run.done.every(
        (round) => round.status === 'closed' && round.sites.every((site) => site.status === 'received'),
      ),
    ).toBe(true);
    expect(
      run.done.every((round) => round.accuracy !== null && round.bytesUp > 0 && round.bytesDown > 0),
    ).toBe(true);
    // What was planned from shapes is what was counted on the wire: nothing was lost or sent twice here.
    const planned = run.plan.reduce(
      (sum, round) => sum + 3 * (round.bytesPerSite + round.bytesDownPerSite),
      0,
    );
    const last = run.plan.at(-1)!;
    expect(run.totals.bytesSent).toBe(planned + 3 * last.bytesDownPerSite);
    const audit = await federation.sites[0]!.agent.client.audit.query();
    expect(audit.intact).toBe(true);
  },
  testTimeoutMs,
);

test(
  'a site killed in mid-round does not stop the others and finds its way back',
  async () => {
    await using federation = await startFederation(3, {
      policy: { ...defaultSitePolicy, minContributors: 2 },
    });
    await startShortRun(federation, { rounds: 3, quorum: 2, epochs: 6 });
    const victim = federation.sites[1]!;

    await until('the site to train', async () => {
      const overview = await victim.agent.client.site.overview.query();
      return overview.activity === 'training' && (overview.progress?.step ?? 0) >= 1;
    });
    await victim.agent.kill();
    const firstRound = await until('the first round to close without it', async () => {
      const round = (await federation.run()).done[0];
      return round?.status === 'closed' && round;
    });
    await federation.startSite(victim.name);
    const run = await until('the run to finish', async () => {
      const current = await federation.run();
      return current.status === 'finished' && current;
    });

    const statusOf = (round: (typeof run.done)[number]) =>
      round.sites.find((site) => site.siteName === victim.name)?.status;
    expect(statusOf(firstRound)).toBe('absent');
    expect(firstRound.sites.filter((site) => site.status === 'received')).toHaveLength(2);
    expect(run.done.slice(1).map(statusOf)).toContain('received');
  },
  testTimeoutMs,
);

test(
  'a killed coordinator goes on with the round it was in',
  async () => {
    await using federation = await startFederation(2, { policy: openPolicy });
    await startShortRun(federation, { rounds: 2, quorum: 2, epochs: 6 });

    const before = await until('both sites to train', async () => {
      const round = (await federation.run()).done[0];
      return round?.sites.filter((site) => (site.step ?? 0) >= 1).length === 2 && round;
    });
    await federation.restartCoordinator();
    const run = await until('the run to finish', async () => {
      const current = await federation.run();
      return current.status === 'finished' && current;
    });

    expect(run.done).toHaveLength(2);
    expect(run.done[0]!.openedAt).toBe(before.openedAt);
    expect(run.done.every((round) => round.sites.every((site) => site.status === 'received'))).toBe(true);
    const audit = await federation.coordinator.client.audit.query();
    expect(audit.intact).toBe(true);
    expect(audit.rows.filter((row) => row.action === 'round-opened')).toHaveLength(2);
  },
  testTimeoutMs,
);

test(
  'withdrawn consent takes effect at once: the round in progress starts again without the subject',
  async () => {
    await using federation = await startFederation(1, { policy: openPolicy });
    const site = federation.sites[0]!.agent;
    // Exact counts, to see who is missing.
    await startShortRun(federation, { rounds: 1, quorum: 1, epochs: 40, smallCell: 1 });
    await until('the site to train', async () => {
      const overview = await site.client.site.overview.query();
      return overview.activity === 'training' && (overview.progress?.step ?? 0) >= 1;
    });
    const subjects = await site.client.site.subjects.query();
    const traces = await Promise.all(
      subjects.map(({ pseudonym }) => site.client.rights.trace.query({ pseudonym })),
    );
    const isTrained = ({ runs }: (typeof traces)[number]) => runs.some(({ rounds }) => rounds.length > 0);
    const trained = traces.find(isTrained)!.pseudonym;

    await site.client.consent.withdraw.mutate({ pseudonym: trained });
    await until('the run to finish', async () => (await federation.run()).status === 'finished');

    const after = await site.client.rights.trace.query({ pseudonym: trained });
    // Nothing was trained with it; held-out images were looked up among its images before, in the untrained network.
    expect(after.runs.map(({ rounds, versions }) => [rounds, versions.map(({ uses }) => uses)])).toEqual([
      [[], [['evaluated'], ['after-evaluated']]],
    ]);
    const { rows } = await site.client.audit.query();
    const actions = rows.map((row) => row.action);
    expect(actions).toContain('round-restarted');
    const announced = rows.find((row) => row.action === 'update-announced')!;
    const images = subjects.find((subject) => subject.pseudonym === trained)!.images;
    const all = (await federation.run()).done[0]!.sites[0]!.examples!;
    expect(announced.details['images']).toBe(all);
    expect(traces.filter(isTrained).length * images - images).toBe(all);
  },
  testTimeoutMs,
);
