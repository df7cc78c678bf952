import { describe, expect, test } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { contractOf } from '../../core/policy/contract.ts';
import { checkManifest } from '../../core/site/approval.ts';
import { recordRun } from '../../core/site/site-records.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import type { RoundPlan } from '../../core/strategy/strategy.ts';
import {
  type ManifestBody,
  manifestSchema,
  parseManifest,
  writtenManifest,
} from '../../core/transport/messages.ts';
import { openIdleSite } from '../fixtures/idle-site.ts';
import { askedBy, manifestOf as honestManifest } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const run = (change: Partial<RunConfig> = {}) =>
  defaultRunConfig({ baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'], ...change });

const reference = { sha256: '1'.repeat(64), sizeBytes: 1, chunkBytes: 1024 };

/** As it arrives. */
function manifestOf(
  config: RunConfig,
  round: number,
  plan: Partial<RoundPlan> = {},
  change: Partial<ManifestBody> = {},
): ManifestBody {
  const due = getStrategy(config.strategy).configureTrain(config, round);
  const body = honestManifest(config, base, round, reference, { plan: { ...due, ...plan }, ...change });
  return manifestSchema.parse(JSON.parse(JSON.stringify(writtenManifest(body))));
}

/** At a site that knows nothing yet. */
function check(manifest: ManifestBody): void {
  using opened = openTestStore();
  checkManifest(manifest, opened.store);
}

describe('a manifest', () => {
  test.each(strategyNameSchema.options)('of %s is worked by in every round', (strategy) => {
    const config = run({ strategy, finalLearningRateShare: 0.1, initiatingMode: 'full' });

    for (let round = 0; round < config.rounds; round++)
      expect(() => check(manifestOf(config, round))).not.toThrow();
  });

  test('whose cosine another machine rounded otherwise is worked by', () => {
    const config = run({ finalLearningRateShare: 0.1 });
    const { learningRateFactor } = getStrategy(config.strategy).configureTrain(config, 3);

    const manifest = manifestOf(config, 3, { learningRateFactor: learningRateFactor * (1 + 1e-14) });

    expect(() => check(manifest)).not.toThrow();
  });

  test.each<[string, Partial<RoundPlan>]>([
    ['all weights', { mode: 'full' }],
    ['a higher rank', { rank: 32 }],
    ['the factor that stays', { sends: 'both' }],
    ['the factor that does not train', { trains: 'both' }],
    ['another pull', { proximal: 1 }],
    ['another learning rate', { learningRateFactor: 0.5 }],
  ])('that asks for %s although the settings do not is refused', (_what, plan) => {
    expect(() => check(manifestOf(run({ strategy: 'ffa-lora' }), 0, plan))).toThrow(
      expect.objectContaining({ code: 'CONTRACT_BROKEN' }),
    );
  });

  test.each<[string, object]>([
    ['the run', { futureSetting: 1 }],
    ['training', { training: { ...run().training, futureSetting: 1 } }],
  ])('with a setting of %s that only a newer version knows is refused in words', (_where, change) => {
    const config = { ...run(), ...change };

    expect(() => check(manifestOf(config, 0))).toThrow(/settings of a run do not match their hash/);
  });

  test('of a round after the last one is refused: with noise, every round costs', () => {
    const config = run({ rounds: 4 });

    expect(() => check(manifestOf(config, 3))).not.toThrow();
    expect(() => check(manifestOf(config, 4))).toThrow(/no round 5/);
    expect(() => check(manifestOf(config, 4, { round: 3 }))).toThrow(/no round 5/);
  });

  test('with settings that do not fit their hash is refused', () => {
    const manifest = { ...manifestOf(run(), 0), configSha256: '0'.repeat(64) };

    expect(() => check(manifest)).toThrow(/hash/);
  });
});

describe('a manifest of a run that the site knows', () => {
  const config = run();
  const first = manifestOf(config, 0);
  const other = { ...reference, sha256: '2'.repeat(64) };
  const broken = expect.objectContaining({ code: 'CONTRACT_BROKEN' });

  /** A site that has seen the first round of the run, with its contract. */
  function knownRun() {
    const opened = openTestStore();
    recordRun(opened.store, first);
    const document = contractOf(config, base, askedBy);
    opened.store.contracts.keep({ runId: 'run', sha256: first.contractSha256, document });
    return { ...opened, [Symbol.dispose]: () => opened[Symbol.dispose]() };
  }

  test('may come again, and go on to the next rounds and the end', () => {
    using site = knownRun();
    const last = { phase: 'evaluate' } as const;

    for (const manifest of [first, manifestOf(config, 1), manifestOf(config, 9, {}, last)])
      expect(() => checkManifest(manifest, site.store)).not.toThrow();
  });

  test.each<[string, Partial<ManifestBody>]>([
    ['another contract', { contractSha256: '2'.repeat(64) }],
    ['another state of a round that has begun', { state: other }],
  ])('is refused with %s', (_what, change) => {
    using site = knownRun();

    expect(() => checkManifest(manifestOf(config, 0, {}, change), site.store)).toThrow(broken);
  });

  test('is refused with other settings, whatever contract it names', () => {
    using site = knownRun();
    const changed = manifestOf(run({ rounds: 1000 }), 0, {}, { contractSha256: first.contractSha256 });

    expect(() => checkManifest(changed, site.store)).toThrow(/changed the contract of a run/);
  });

  test('is refused with a second last state, which would be another answer at the end', () => {
    using site = knownRun();
    site.store.contracts.pinFinalState('run', reference.sha256);
    const last = (state: ManifestBody['state'], phase: ManifestBody['phase']) =>
      manifestOf(config, 9, {}, { phase, state });

    expect(() => checkManifest(last(reference, 'evaluate'), site.store)).not.toThrow();
    expect(() => checkManifest(last(other, 'evaluate'), site.store)).toThrow(/exchanged the shared model/);
    // Of these nothing is asked.
    expect(() => checkManifest(last(other, 'finished'), site.store)).not.toThrow();
    expect(() => checkManifest(last(null, 'waiting'), site.store)).not.toThrow();
  });

  test('is worked by although an older version had stored its settings, which lack the newest ones', () => {
    using opened = openTestStore();
    const { title: _title, note: _note, weightCap: _cap, ...older } = config;
    opened.store.runs.insert({ id: 'run', config: older as RunConfig });

    expect(() => checkManifest(first, opened.store)).not.toThrow();
  });

  test('starts from its own seed only: nothing lies under the first state', () => {
    const under = { frozenBaseDelta: [other] };

    expect(() => check(manifestOf(config, 0, {}, under))).toThrow(/weights that its contract does not know/);
    expect(() => check(manifestOf(config, 1, {}, under))).not.toThrow();
  });
});

describe('a manifest of another version', () => {
  const {
    protocol: _protocol,
    contractSha256: _contract,
    ...withoutContract
  } = writtenManifest(manifestOf(run(), 0));

  test.each<[string, object]>([
    ['of the protocol without contracts', withoutContract],
    ['that says so', { ...writtenManifest(manifestOf(run(), 0)), protocol: 1 }],
    ['that is newer', { ...writtenManifest(manifestOf(run(), 0)), protocol: 3 }],
  ])('%s is refused in one sentence', (_what, written) => {
    expect(() => parseManifest(JSON.parse(JSON.stringify(written)))).toThrow(
      expect.objectContaining({ name: 'AppError', message: expect.stringMatching(/^[A-Z].*\.$/) }),
    );
  });
});

test('a site does not work by such a manifest, shows why, and tells the coordinator not to wait', async () => {
  using opened = openTestStore();
  await using idle = openIdleSite(opened.store, { autoApprove: true });
  const { site, sent } = idle;

  site.receiveManifest(manifestOf(run(), 0, { mode: 'full', rank: 0 }));

  expect(site.manifest).toBeNull();
  expect(site.problem).toMatchObject({ code: 'CONTRACT_BROKEN', message: expect.stringContaining('"mode"') });
  expect(sent.map(({ type }) => type)).toEqual(['declined']);
  expect(opened.store.runs.list()).toEqual([]);
});

test('a manifest has on the wire the fields of protocol 2', () => {
  const manifest = manifestOf(run(), 0);

  const written = writtenManifest(manifest);

  const fields =
    'config configSha256 contractSha256 contributors deadlineAt foundation participants paused phase plan protocol round runId state';
  expect(Object.keys(written).sort().join(' ')).toBe(fields);
  expect(manifestSchema.parse(written)).toEqual(manifest);
});
