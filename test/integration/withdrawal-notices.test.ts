/** A withdrawal after the end of a run reaches the coordinator, its models, and the runs that build upon them. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { generateDemoFaces } from '../../core/data/demo-faces.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { startFederation, startShortRun, type TestFederation, until } from '../fixtures/federation.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const testTimeoutMs = 300_000;
const late = 'LATE-1';

/** Images of one more person, under a pseudonym of their own. */
async function importLateSubject(federation: TestFederation, dir: string): Promise<void> {
  const [faces] = await generateDemoFaces({
    ...{ outFolder: dir, sites: 1, seed: 77, subjectsPerSite: 8, imagesPerSubject: 3 },
    ...{ alpha: 100, withdrawnPerSite: 0 },
  });
  const [header, ...lines] = (await readFile(faces!.labelsFile, 'utf8')).trim().split('\n');
  const rows = lines.map((line) => line.split(','));
  const [, chosen] = rows.find(([, , , split]) => split === 'train')!;
  const own = rows.filter(([, subject]) => subject === chosen);
  const renamed = own.map(([file, , ...others]) => [file, late, ...others].join(','));
  await writeFile(faces!.labelsFile, [header, ...renamed].join('\n'));
  await federation.sites[0]!.agent.client.site.import.mutate({
    ...{ imagesFolder: faces!.imagesFolder, labelsFile: faces!.labelsFile, alreadyCropped: true },
  });
}

const finished = (federation: TestFederation, runId: string) =>
  until(`run ${runId} to finish`, async () => {
    const run = await federation.coordinator.client.coordinator.run.query({ runId });
    if (run.status === 'failed') throw new Error(run.failure?.message);
    return run.status === 'finished' && run;
  });

test(
  'a notice outlives offline and kill -9 on both sides; versions and descendants are marked, and a new run starts before',
  async () => {
    using folder = temporaryFolder();
    await using federation = await startFederation(2, { policy: openPolicy });
    const first = await startShortRun(federation, { rounds: 3, quorum: 2, epochs: 6 });
    await until('both sites to train', async () => {
      const round = (await federation.run()).done[0];
      return round?.sites.filter((site) => (site.step ?? 0) >= 1).length === 2 && round;
    });
    await importLateSubject(federation, path.join(folder.dir, 'late'));
    await finished(federation, first.id);
    const site = () => federation.sites[0]!.agent.client;
    const trace = await site().rights.trace.query({ pseudonym: late });
    expect(trace.runs.map(({ rounds }) => rounds)).toEqual([[1, 2]]);

    // A run that builds upon what the subject is in.
    const settings = { classes: federation.classes, quorum: 2, rMax: 4, rMin: 2, targetModules: 'level-256' };
    const training = { batchSize: 4, epochs: 1 };
    const descendant = await federation.coordinator.client.coordinator.startRun.mutate({
      ...{ ...settings, training, rounds: 1, initiatingRounds: 1, coolingRounds: 0 },
      from: { runId: first.id, round: 1 },
    });
    expect(descendant.startedFrom).toMatchObject({ runId: first.id, round: 1 });
    await finished(federation, descendant.id);

    // The coordinator is away when the consent is withdrawn, and the site dies right after.
    await federation.coordinator.kill();
    await site().consent.withdraw.mutate({ pseudonym: late });
    await until('the withdrawal to be in the outbox', async () =>
      (await site().audit.query()).rows.some(({ action }) => action === 'withdrawal-told'),
    );
    await federation.sites[0]!.agent.kill();
    await federation.restartCoordinator();
    await federation.startSite(federation.sites[0]!.name);

    const marked = await until('the runs to be marked', async () => {
      const { runs } = await federation.coordinator.client.coordinator.overview.query();
      return runs.every(({ withdrawal }) => withdrawal !== null) && runs;
    });
    const markOf = (runId: string) => marked.find(({ id }) => id === runId)!.withdrawal;
    const { name } = federation.sites[0]!;
    expect(markOf(first.id)).toMatchObject({ fromRound: 1, sites: [name], inheritedFrom: null });
    expect(markOf(descendant.id)).toMatchObject({ fromRound: -1, inheritedFrom: first.id });
    const adapters = await federation.coordinator.client.adapters.query();
    const withdrawn = adapters.filter((row) => row.withdrawn).map(({ runId, round }) => `${runId} ${round}`);
    expect(withdrawn.sort()).toEqual(
      [`${first.id} 1`, `${first.id} 2`, `${descendant.id} -1`, `${descendant.id} 0`].sort(),
    );
    // Nothing about whom.
    const { rows } = await federation.coordinator.client.audit.query();
    expect(JSON.stringify(rows)).not.toContain(late);
    const newest = adapters.find(({ runId, round }) => runId === first.id && round === 2)!;
    const target = path.join(folder.dir, 'export');
    const exported = await federation.coordinator.client.exportAdapter.mutate({
      ...{ sha256: newest.sha256, runId: first.id, folder: target },
    });
    expect(exported.withdrawn).toBe(true);
    expect(existsSync(path.join(target, 'WITHDRAWN.txt'))).toBe(true);

    // No run starts from what is marked; one starts again from before.
    const { startRun, restartRun } = federation.coordinator.client.coordinator;
    await expect(startRun.mutate({ ...settings, from: { runId: first.id, round: 2 } })).rejects.toThrow(
      'has withdrawn',
    );
    const again = await restartRun.mutate({ runId: first.id });
    const clean = adapters.find(({ runId, round }) => runId === first.id && round === 0)!;
    expect(again.startedFrom).toEqual({ runId: first.id, round: 0, sha256: clean.sha256 });
    const run = await finished(federation, again.id);
    expect(run.withdrawal).toBeNull();
    expect(run.done.map(({ sites }) => sites.map(({ status }) => status))).toEqual(
      Array.from({ length: 3 }, () => ['received', 'received']),
    );
    expect(
      (await site().rights.trace.query({ pseudonym: late })).runs.map(({ runId }) => runId),
    ).not.toContain(again.id);
  },
  testTimeoutMs,
);
