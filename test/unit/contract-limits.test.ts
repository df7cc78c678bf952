/** What an approval holds for: the contract itself, or what a person's limits allow beyond it. */
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { asksForMore } from '../../core/policy/asks-for-more.ts';
import { type Contract, contractHash, contractOf, contractSchema } from '../../core/policy/contract.ts';
import { coverageOf, type Limits, limitsSchema, withLimits } from '../../core/policy/standing-approval.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });

function contractFor(change: Partial<RunConfig> = {}, by = askedBy): Contract {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b', 'c'], quorum: 3 };
  return contractOf(runConfigSchema.parse(defaultRunConfig({ ...start, ...change })), base, by);
}

/** Paths in which `asked` asks for more, as a store that keeps what was granted would find. */
const excess = (granted: Contract, asked: Contract) =>
  asksForMore(contractSchema.parse(JSON.parse(JSON.stringify(granted))), asked).map(({ path }) => path);

describe('what was "covered" without a question asks again', () => {
  const [one, all] = [{ targetModules: ['body.q'] }, { targetModules: 'all' }];
  const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
  test.each<[string, Partial<RunConfig>, Partial<RunConfig>, string]>([
    ['one layer, then all', one, all, 'settings.targetModules'],
    [
      'the last blocks, then all weights',
      { initiatingMode: 'last-k', lastK: 1 },
      { initiatingMode: 'full', lastK: 1 },
      'settings.initiatingMode',
    ],
    ['3 rounds, then 1000', { rounds: 3 }, { rounds: 1000 }, 'settings.rounds'],
    ['other classes', {}, { classes: ['a', 'b', 'x'] }, 'settings.classes'],
    [
      'batch 1 without clipping',
      {},
      { training: { ...training, batchSize: 1, clipNorm: 0 } },
      'settings.training.batchSize settings.training.clipNorm',
    ],
    ['quorum 3, then 1', {}, { quorum: 1 }, 'settings.quorum minContributors'],
    ['norm-bound, then a plain mean', { robust: { rule: 'norm-bound', factor: 2 } }, {}, 'settings.robust'],
    [
      'clip 1, then 1e6',
      { training: { ...training, clipNorm: 1 } },
      { training: { ...training, clipNorm: 1e6 } },
      'settings.training.clipNorm',
    ],
    [
      'noise of clip 1, then of clip 1e9',
      { privacy },
      { privacy: { ...privacy, clipNorm: 1e9 } },
      'settings.privacy',
    ],
    ['another purpose', {}, { purpose: 'drug-company-study' }, 'settings.purpose'],
    ['another optimiser', {}, { training: { ...training, optimiser: 'sgd' } }, 'settings.training.optimiser'],
    ['another method', { strategy: 'flexlora' }, { strategy: 'head-only' }, 'settings.strategy'],
    ['a head that stayed', { localHead: true }, {}, 'settings.localHead'],
    ['a factor that stayed', { strategy: 'fedsa-lora' }, { strategy: 'fedavg-lora' }, 'settings.strategy'],
    ['a rank of one layer', {}, { rankPattern: { 'body.q': 32 } }, 'settings.rankPattern'],
    ['finer numbers', { wire: { up: 'int8', down: 'fp32', errorFeedback: false } }, {}, 'settings.wire.up'],
    ['smaller cells', { smallCell: 5 }, { smallCell: 4 }, 'settings.smallCell'],
    ['a higher weight cap', { weightCap: 3 }, { weightCap: null }, 'settings.weightCap'],
  ])('%s', (_what, granted, asked, paths) => {
    expect(excess(contractFor(granted), contractFor(asked))).toEqual(
      expect.arrayContaining(paths.split(' ')),
    );
    expect(contractHash(contractFor(granted))).not.toBe(contractHash(contractFor(asked)));
  });

  test('the same settings over another base model', () => {
    const other = { ...base, sha256: 'cd'.repeat(32) };
    const config = { ...contractFor().settings, baseSha256: other.sha256 };

    expect(excess(contractFor(), contractOf(config, other, askedBy))).toEqual([
      'settings.baseSha256',
      'baseModel.sha256',
    ]);
  });

  test.each([
    ['federation', { ...askedBy, federation: 'another' }],
    ['coordinator', { ...askedBy, coordinatorKey: 'another' }],
  ])('the same run of another %s', (_what, by) => {
    expect(excess(contractFor(), contractFor({}, by))).toHaveLength(1);
  });
});

describe('what asks for less is covered', () => {
  test.each<[string, Partial<RunConfig>, Partial<RunConfig>]>([
    ['the same again', {}, {}],
    ['another title, note, seed and deadline', {}, { title: 'x', note: 'y', seed: 9, roundDeadlineMs: 1 }],
    ['fewer classes, in another order', {}, { classes: ['c', 'a'] }],
    ['a smaller rank', { rMax: 16 }, { rMax: 8 }],
    ['fewer rounds', { rounds: 10 }, { rounds: 5 }],
    ['more sites', { quorum: 3 }, { quorum: 5 }],
    ['larger cells', { smallCell: 5 }, { smallCell: 10 }],
    ['coarser numbers', {}, { wire: { up: 'int8', down: 'fp32', errorFeedback: false } }],
    ['noise', {}, { privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } }],
    ['larger batches', {}, { training: { ...training, batchSize: 32 } }],
    [
      'clipping where there was none',
      { training: { ...training, clipNorm: 0 } },
      { training: { ...training, clipNorm: 5 } },
    ],
    ['a robust rule', {}, { robust: { rule: 'norm-bound', factor: 2 } }],
    ['a weight cap', { weightCap: null }, { weightCap: 2 }],
  ])('%s', (_what, granted, asked) => {
    expect(excess(contractFor(granted), contractFor(asked))).toEqual([]);
  });
});

describe('an approval within limits', () => {
  const limitsOf = (change: object): Limits => limitsSchema.parse({ runs: 3, until: null, ...change });
  const grantedBy = (limits: Limits) =>
    contractOf(runConfigSchema.parse(withLimits(contractFor().settings, limits)), base, askedBy);

  test('puts the limits in the place of the settings, and nothing else', () => {
    const { settings } = contractFor();
    const limits = limitsOf({
      ...{ rounds: 20, rMax: 8, quorum: 2, smallCell: 3, classes: ['a', 'b'] },
      batchSize: 4,
      clipNorm: 2,
    });

    expect(withLimits(settings, limits)).toEqual({
      ...settings,
      ...{ rounds: 20, rMax: 8, quorum: 2, smallCell: 3, classes: ['a', 'b'] },
      training: { ...settings.training, batchSize: 4, clipNorm: 2 },
    });
    expect(withLimits(settings, limitsOf({}))).toEqual(settings);
  });

  test('covers what stays within, and names what does not', () => {
    const standing = { granted: grantedBy(limitsOf({ rounds: 20 })), runs: 3, until: null };
    const at = { runsBefore: 0, at: '2026-12-01T00:00:00.000Z' };

    expect(coverageOf(standing, contractFor({ rounds: 20 }), at)).toEqual({ covers: true });
    const more = coverageOf(standing, contractFor({ rounds: 21 }), at);
    expect(more).toMatchObject({ covers: false, because: 'asks-for-more' });
    expect('excess' in more && more.excess[0]).toEqual({ path: 'settings.rounds', granted: 20, asked: 21 });
  });

  test.each([
    [2, null, true],
    [3, null, false],
    [0, '2026-12-01T00:00:00.001Z', true],
    [0, '2026-12-01T00:00:00.000Z', false],
  ])(
    'covers three runs at most, and none from its end on: %s before, until %s',
    (runsBefore, until, covers) => {
      const standing = { granted: contractFor(), runs: 3, until };

      expect(coverageOf(standing, contractFor(), { runsBefore, at: '2026-12-01T00:00:00.000Z' }).covers).toBe(
        covers,
      );
    },
  );
});
