/** What becomes of a run at a site: its contract, the policy, and what people said. */
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { defaultSitePolicy, type SitePolicy } from '../../core/config/site-policy.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { contractHash, contractOf } from '../../core/policy/contract.ts';
import { type Limits, limitsSchema } from '../../core/policy/standing-approval.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { judge, type Verdict } from '../../core/site/approval.ts';
import { approve, decline, endStanding } from '../../core/site/decide.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { recordRun } from '../../core/site/site-records.ts';
import type { Store } from '../../core/store/store.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import { askedBy, manifestOf } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const catalogue = { ...createCatalogue(), load: async () => base, resolve: async () => base.id };
const stateOf = (text: string) => ({ sha256: sha256(text), sizeBytes: 1, chunkBytes: 1024 });

function configOf(change: Partial<RunConfig> = {}): RunConfig {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], quorum: 3 };
  return runConfigSchema.parse(defaultRunConfig({ ...start, ...change }));
}

function ask(runId: string, change: Partial<RunConfig> = {}, rest: Partial<ManifestBody> = {}, round = 0) {
  return manifestOf(configOf(change), base, round, stateOf(`${runId} ${round}`), { runId, ...rest });
}

interface Moment {
  now?: Date;
  automatic?: boolean;
  hardlyCompresses?: boolean;
}

/** As core/site/site.ts does with a manifest. */
function decide(store: Store, manifest: ManifestBody, moment: Moment = {}): Verdict {
  const { now = new Date(2026, 10, 22, 12), automatic = false, hardlyCompresses = false } = moment;
  recordRun(store, manifest);
  const contract = contractOf(runConfigSchema.parse(manifest.config), base, askedBy);
  const derived = { contract, sha256: contractHash(contract) };
  return judge(store, manifest, derived, { base: { hardlyCompresses }, automatic, now });
}

const refusal = (verdict: Verdict) => (verdict.type === 'refused' ? verdict.error : null);
const limitsOf = (change: Partial<Limits> = {}): Limits =>
  limitsSchema.parse({ runs: 3, until: null, ...change });

function openSite(policy: Partial<SitePolicy> = {}) {
  const opened = openTestStore();
  setPolicy(opened.store, { ...defaultSitePolicy, ...policy }, 'manager');
  const by = { store: opened.store, catalogue, actor: 'manager' };
  return { ...opened, by, [Symbol.dispose]: () => opened[Symbol.dispose]() };
}

const actionsOf = (store: Store) =>
  store.audit
    .page()
    .map(({ action }) => action)
    .filter((action) => action.startsWith('run-') || action.startsWith('approval-'))
    .reverse();

describe('a run asks for a decision', () => {
  test('which holds for this run: all rounds of it, and no other one, not even of the very same', async () => {
    using site = openSite();
    const { store, by } = site;
    const first = ask('one');
    expect(decide(store, first)).toEqual({ type: 'approvalMissing' });

    await approve(by, first.contractSha256);

    expect(decide(store, first)).toEqual({ type: 'approved' });
    expect(decide(store, ask('one', {}, { contributors: 3 }, 1))).toEqual({ type: 'approved' });
    expect(decide(store, ask('two'))).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('three', { rounds: 11 }))).toEqual({ type: 'approvalMissing' });
    expect(actionsOf(store)).toEqual(['run-approved']);
    await approve(by, ask('two').contractSha256);
    expect(decide(store, ask('two'))).toEqual({ type: 'approved' });
    expect(decide(store, first)).toEqual({ type: 'approved' });
    expect(store.audit.page().filter(({ action }) => action === 'run-approved')).toMatchObject([
      { actor: 'manager', details: { runId: 'two', contract: first.contractSha256 } },
      { actor: 'manager', details: { runId: 'one', contract: first.contractSha256 } },
    ]);
  });

  test('which may be no, with a reason, and may be changed; the newest counts', async () => {
    using site = openSite();
    const { store, by } = site;
    const manifest = ask('one');
    decide(store, manifest);

    decline(by, manifest.contractSha256, 'The committee has not met.');
    expect(decide(store, manifest)).toEqual({ type: 'declinedHere', reason: 'The committee has not met.' });
    await approve(by, manifest.contractSha256);
    expect(decide(store, manifest)).toEqual({ type: 'approved' });
    decline(by, manifest.contractSha256, 'It has met.');

    expect(decide(store, manifest, { automatic: true })).toEqual({
      type: 'declinedHere',
      reason: 'It has met.',
    });
    expect(actionsOf(store)).toEqual(['run-declined', 'run-approved', 'run-declined']);
  });

  test('that nobody can make about a contract that was not shown here', async () => {
    using site = openSite();
    const unknown = 'ab'.repeat(32);

    await expect(approve(site.by, unknown)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(() => decline(site.by, unknown, 'no')).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    expect(site.store.decisions.list()).toEqual([]);
  });

  test('that "approve automatically" makes once, and only for what the policy allows', () => {
    using site = openSite();
    const { store } = site;

    expect(decide(store, ask('one'), { automatic: true })).toEqual({ type: 'approved' });
    expect(decide(store, ask('one'), { automatic: true })).toEqual({ type: 'approved' });
    expect(decide(store, ask('two', { quorum: 1 }), { automatic: true }).type).toBe('refused');

    expect(store.decisions.list().map(({ actor, kind }) => [actor, kind])).toEqual([
      ['automatic', 'approved'],
    ]);
  });
});

describe('an approval within limits', () => {
  test('covers later runs that ask for no more, so many of them, and asks again for others', async () => {
    using site = openSite();
    const { store, by } = site;
    const first = ask('one');
    decide(store, first);

    await approve(by, first.contractSha256, limitsOf({ rounds: 20, runs: 3 }));

    expect(decide(store, first)).toEqual({ type: 'approved' });
    expect(decide(store, ask('two', { rounds: 20, title: 'Second', seed: 7 }))).toEqual({ type: 'approved' });
    expect(decide(store, ask('more', { rounds: 21 }))).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('other', { rMax: 17 }))).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('three', { rounds: 5 }))).toEqual({ type: 'approved' });
    // Used up. What it covered goes on.
    expect(decide(store, ask('four', { rounds: 6 }))).toEqual({ type: 'approvalMissing' });
    expect(
      decide(store, ask('two', { rounds: 20, title: 'Second', seed: 7 }, { contributors: 3 }, 3)),
    ).toEqual({
      type: 'approved',
    });
    expect(actionsOf(store)).toEqual([
      'run-approved-within-limits',
      'run-covered',
      'run-covered',
      'run-covered',
    ]);
    expect([...store.decisions.runsCoveredBy(store.decisions.standing()[0]!.id)].sort()).toEqual([
      'one',
      'three',
      'two',
    ]);
  });

  test('counts every run, also one that asks for the very same', async () => {
    using site = openSite();
    const { store, by } = site;
    const first = ask('one');
    decide(store, first);

    await approve(by, first.contractSha256, limitsOf({ runs: 3 }));
    const verdicts = Array.from({ length: 20 }, (_, index) => decide(store, ask(`again ${index}`)).type);

    expect(verdicts.filter((type) => type === 'approved')).toHaveLength(2);
    expect(decide(store, first)).toEqual({ type: 'approved' });
  });

  test('of a version with other limits covers nothing: a person is asked', async () => {
    using site = openSite();
    const { store, by } = site;
    const first = ask('one');
    decide(store, first);
    await approve(by, first.contractSha256, limitsOf());
    const [own] = store.decisions.standing();
    store.decisions.append({ ...own!, standing: { ...(own!.standing as object), weekdays: 'Mon' } });
    endStanding(by, own!.id);

    expect(decide(store, first)).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('two', { rounds: 5 }))).toEqual({ type: 'approvalMissing' });
  });

  test('ends on its day, also for a run that it covered', async () => {
    using site = openSite();
    const { store, by } = site;
    const manifest = ask('one');
    decide(store, manifest);
    const until = new Date(2026, 10, 23).toISOString();
    await approve(by, manifest.contractSha256, limitsOf({ until }));

    expect(decide(store, manifest, { now: new Date(2026, 10, 22, 23, 59) })).toEqual({ type: 'approved' });
    expect(decide(store, manifest, { now: new Date(2026, 10, 23) })).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('two', { rounds: 5 }), { now: new Date(2026, 10, 23) })).toEqual({
      type: 'approvalMissing',
    });
  });

  test('can be taken back, once: it covers no further round', async () => {
    using site = openSite();
    const { store, by } = site;
    const manifest = ask('one');
    decide(store, manifest);
    await approve(by, manifest.contractSha256, limitsOf());
    decide(store, ask('two', { rounds: 5 }));
    const [standing] = store.decisions.standing();

    endStanding(by, standing!.id);

    expect(() => endStanding(by, standing!.id)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    expect(decide(store, manifest)).toEqual({ type: 'approvalMissing' });
    expect(decide(store, ask('two', { rounds: 5 }))).toEqual({ type: 'approvalMissing' });
    expect(actionsOf(store).at(-1)).toBe('approval-ended');
    await approve(by, manifest.contractSha256);
    expect(decide(store, manifest)).toEqual({ type: 'approved' });
  });

  test('does not bring a run back that was declined', async () => {
    using site = openSite();
    const { store, by } = site;
    const [first, second] = [ask('one'), ask('two', { rounds: 5 })];
    decide(store, first);
    decide(store, second);
    decline(by, second.contractSha256, 'Not this one.');

    await approve(by, first.contractSha256, limitsOf());

    expect(decide(store, second)).toEqual({ type: 'declinedHere', reason: 'Not this one.' });
  });

  test.each<[string, Partial<Limits>, RegExp]>([
    ['fewer rounds', { rounds: 9 }, /asks for more in "rounds"/],
    ['fewer classes', { classes: ['a', 'x'] }, /asks for more in "classes"/],
    ['larger steps', { batchSize: 64 }, /asks for more in "training\.batchSize"/],
    ['tighter clipping', { clipNorm: 0.5 }, /asks for more in "training\.clipNorm"/],
    ['more sites', { quorum: 4 }, /asks for more in "quorum"/],
  ])('that does not cover the run on the card is refused: %s', async (_what, change, message) => {
    using site = openSite();
    const manifest = ask('one');
    decide(site.store, manifest);

    await expect(approve(site.by, manifest.contractSha256, limitsOf(change))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
    expect(site.store.decisions.list()).toEqual([]);
  });
});

describe('a run is refused', () => {
  test('whose manifest names another contract than the site derives', () => {
    using site = openSite();
    const manifest = { ...ask('one'), contractSha256: 'ab'.repeat(32) };

    expect(refusal(decide(site.store, manifest))).toMatchObject({ code: 'CONTRACT_BROKEN' });
    expect(site.store.contracts.get('one')).toBeNull();
  });

  test('that the policy refuses, also when a person had approved it before', async () => {
    using site = openSite();
    const { store, by } = site;
    const manifest = ask('one');
    decide(store, manifest);
    await approve(by, manifest.contractSha256);

    setPolicy(store, { ...defaultSitePolicy, maxRounds: 5 }, 'manager');

    expect(refusal(decide(store, manifest))).toMatchObject({
      code: 'POLICY_REFUSED',
      message: expect.stringContaining('at most 5 rounds'),
    });
  });

  test('on a base model from whose output a photograph can be rebuilt', () => {
    using site = openSite();

    expect(refusal(decide(site.store, ask('one'), { hardlyCompresses: true }))).toMatchObject({
      code: 'POLICY_REFUSED',
    });
  });

  test.each([
    [2, 3, true],
    [3, 3, false],
    [null, 3, true],
    // The contract says how many contribute; the policy may ask for more.
    [4, 5, true],
    [5, 5, false],
  ])(
    'in a round whose shared model was made by %s sites where %i are asked for: %s',
    (contributors, least, refused) => {
      using site = openSite();
      const manifest = ask('one', { quorum: least }, { contributors }, 1);

      const verdict = decide(site.store, manifest, { automatic: true });

      expect(verdict.type).toBe(refused ? 'refused' : 'approved');
      if (refused) expect(refusal(verdict)!.message).toContain(`at least ${least}`);
    },
  );

  test('at the end, too, when too few sites are behind the last state', () => {
    using site = openSite();
    const last = (contributors: number) => ask('one', {}, { phase: 'evaluate', contributors }, 9);

    expect(decide(site.store, last(1), { automatic: true }).type).toBe('refused');
    expect(decide(site.store, last(3), { automatic: true }).type).toBe('approved');
  });

  test('at the end, when the coordinator shows a second last state', () => {
    using site = openSite();
    const last = ask('one', {}, { phase: 'evaluate' }, 9);
    decide(site.store, last, { automatic: true });

    const verdict = decide(site.store, { ...last, state: stateOf('another') }, { automatic: true });

    expect(refusal(verdict)).toMatchObject({
      code: 'CONTRACT_BROKEN',
      message: expect.stringContaining('exchanged the shared model'),
    });
  });

  test('in quiet hours, until they end, but is still evaluated at its end', () => {
    using site = openSite({ quietHours: '07:00-19:00' });
    const [noon, evening] = [new Date(2026, 10, 22, 12), new Date(2026, 10, 22, 20)];
    const last = ask('one', {}, { phase: 'evaluate' }, 9);

    expect(decide(site.store, ask('one'), { automatic: true, now: noon })).toMatchObject({
      type: 'refused',
      again: true,
      error: { message: expect.stringContaining('19:00') },
    });
    expect(decide(site.store, ask('one'), { automatic: true, now: evening }).type).toBe('approved');
    expect(decide(site.store, last, { automatic: true, now: noon }).type).toBe('approved');
  });

  test('while nobody can say which policy holds', () => {
    using site = openSite();
    site.store.audit.append({ actor: 'x', action: 'site-policy-set', details: { version: 9, sha256: 'x' } });

    expect(refusal(decide(site.store, ask('one'), { automatic: true }))).toMatchObject({
      code: 'POLICY_CHANGED',
    });
  });
});
