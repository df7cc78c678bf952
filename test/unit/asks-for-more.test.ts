/** Whether a contract asks for more is decided field by field, and what has no rule asks again: for every key there is. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { asksForMore, comparisons } from '../../core/policy/asks-for-more.ts';
import { type Contract, contractOf, contractSchema } from '../../core/policy/contract.ts';
import { canonicalJson } from '../../core/shared/hash.ts';
import { withValue } from '../fixtures/contract-values.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { arbitraryOf, type Place, placesOf } from '../fixtures/zod-arbitrary.ts';

const base = shapeOnlyBase();
const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b', 'c'], quorum: 3 };
const contract = contractOf(runConfigSchema.parse(defaultRunConfig(start)), base, askedBy);

const isRuled = (path: string) =>
  Object.keys(comparisons).some((ruled) => path === ruled || path.startsWith(`${ruled}.`));
const places = placesOf(contractSchema);

/** Two different values for a place, and contracts that have them. */
function pairAt({
  path,
  schema,
  mayBeAbsent,
  branches,
}: Place): fc.Arbitrary<{ granted: Contract; asked: Contract }> {
  const value = mayBeAbsent ? fc.option(arbitraryOf(schema), { nil: undefined }) : arbitraryOf(schema);
  const around = fc.tuple(...branches.map((branch) => arbitraryOf(branch.schema)));
  return fc
    .tuple(around, value, value)
    .filter(([, one, other]) => canonicalJson([one ?? 'absent']) !== canonicalJson([other ?? 'absent']))
    .map(([values, one, other]) => {
      const whole = branches.reduce(
        (at, branch, index) => withValue(at, branch.path, values[index]),
        contract,
      );
      return { granted: withValue(whole, path, one), asked: withValue(whole, path, other) };
    });
}

const isFixed = ({ schema }: Place) => schema._zod.def.type === 'literal';
const named = (list: readonly Place[]) =>
  [...Map.groupBy(list, ({ path }) => path)].map(([path, same]): [string, Place[]] => [path, same]);

describe('every key of a contract', () => {
  test('is walked over: settings of all kinds, in branches of unions, behind null, and keys that may be absent', () => {
    const paths = new Set(places.map(({ path }) => path));

    for (const key of Object.keys(runConfigSchema.shape))
      expect(
        [...paths].some((path) => path === `settings.${key}` || path.startsWith(`settings.${key}.`)),
        key,
      ).toBe(true);
    for (const path of [
      'settings.serverOptimiser.beta2',
      'settings.privacy.delta',
      'settings.training.augment.zoom',
    ])
      expect(paths).toContain(path);
    expect(places.filter(({ mayBeAbsent }) => mayBeAbsent).length).toBeGreaterThan(3);
    expect(places.length).toBeGreaterThan(100);
  });

  test.each(named(places.filter((place) => !isRuled(place.path) && !isFixed(place))))(
    '%s asks again when it has another value',
    (path, same) => {
      for (const place of same)
        fc.assert(
          fc.property(pairAt(place), ({ granted, asked }) => {
            const found = asksForMore(granted, asked).map((excess) => excess.path);
            expect(found.length).toBeGreaterThan(0);
            for (const each of found) expect(`${each}.`.startsWith(`${path}.`), each).toBe(true);
          }),
          { numRuns: 30 },
        );
    },
  );

  test('has no rule that means nothing: each is about something that a contract holds', () => {
    const known = places.flatMap(({ path }) => {
      const keys = path.split('.');
      return keys.map((_key, index) => keys.slice(0, index + 1).join('.'));
    });

    expect(Object.keys(comparisons).filter((path) => !known.includes(path))).toEqual([]);
  });

  test.each(['futureSetting', 'toString', '__proto__', 'constructor'])(
    'that only one side knows asks again: %s',
    (key) => {
      // As JSON brings it: `__proto__` is then a key like any other.
      const text = canonicalJson(contract).replace('"settings":{', `"settings":{"${key}":1,`);
      const other = JSON.parse(text) as Contract;

      expect(asksForMore(contract, other).map(({ path }) => path)).toEqual([`settings.${key}`]);
      expect(asksForMore(other, contract).map(({ path }) => path)).toEqual([`settings.${key}`]);
    },
  );
});

const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 };
const leaves = {
  precision: 'fp16',
  tensors: [
    { name: 'a', dims: [4, 2] },
    { name: 'b', dims: [3] },
  ],
  rounds: [{ from: 0, to: 9, mode: 'lora', rank: 2, sends: 'both', tensors: 2, values: 11, bytes: 100 }],
  bytes: 1000,
};

/** By rule: what was granted; what may be asked then; what may not. */
const examples: Record<string, { granted: unknown; covered: unknown[]; more: unknown[] }> = {
  'settings.title': { granted: 'a', covered: ['a', 'b', ''], more: [] },
  'settings.note': { granted: 'a', covered: ['a', 'b', ''], more: [] },
  'settings.seed': { granted: 1, covered: [1, 2], more: [] },
  'settings.roundDeadlineMs': { granted: 1, covered: [1, 2], more: [] },
  'settings.classes': {
    granted: ['a', 'b', 'c'],
    covered: [
      ['a', 'b', 'c'],
      ['c', 'a'],
    ],
    more: [
      ['a', 'x'],
      ['a', 'b', 'c', 'd'],
      ['A', 'b'],
    ],
  },
  'settings.rounds': { granted: 10, covered: [10, 1], more: [11, 1000] },
  'settings.rMax': { granted: 8, covered: [8, 1], more: [9] },
  'settings.quorum': { granted: 3, covered: [3, 4], more: [2, 1] },
  'settings.smallCell': { granted: 5, covered: [5, 10], more: [4, 1] },
  'settings.wire.up': { granted: 'fp16', covered: ['fp16', 'int8'], more: ['fp32', 'fp64', 'toString'] },
  'settings.privacy': {
    granted: privacy,
    covered: [
      privacy,
      { ...privacy, noiseMultiplier: 2 },
      { ...privacy, clipNorm: 0.5 },
      { ...privacy, delta: 1e-6 },
    ],
    more: [
      null,
      { ...privacy, noiseMultiplier: 0.9 },
      { ...privacy, clipNorm: 1e9 },
      { ...privacy, delta: 1e-4 },
      { ...privacy, at: 'coordinator' },
    ],
  },
  'settings.robust': {
    granted: { rule: 'norm-bound', factor: 2 },
    covered: [
      { rule: 'norm-bound', factor: 2 },
      { rule: 'norm-bound', factor: 1 },
    ],
    more: [{ rule: 'mean' }, { rule: 'norm-bound', factor: 3 }, { rule: 'median' }],
  },
  'settings.weightCap': { granted: 3, covered: [3, 1], more: [4, null] },
  'settings.training.batchSize': { granted: 8, covered: [8, 16], more: [7, 1] },
  'settings.training.clipNorm': { granted: 1, covered: [1, 0.5], more: [0, 1.5, 1e9] },
  minContributors: { granted: 3, covered: [3, 5], more: [2, 1] },
  leaves: {
    granted: leaves,
    covered: [
      leaves,
      { ...leaves, precision: 'int8', bytes: 1 },
      { ...leaves, tensors: [{ name: 'a', dims: [4, 1] }] },
      { ...leaves, rounds: [{ ...leaves.rounds[0], values: 5, bytes: 50 }] },
    ],
    more: [
      { ...leaves, precision: 'fp32' },
      { ...leaves, bytes: 1001 },
      { ...leaves, tensors: [...leaves.tensors, { name: 'base.w', dims: [1] }] },
      { ...leaves, tensors: [{ name: 'a', dims: [2, 4] }] },
      { ...leaves, tensors: [{ name: 'b', dims: [3, 1] }] },
      { ...leaves, rounds: [{ ...leaves.rounds[0], values: 12 }] },
      { ...leaves, rounds: [{ ...leaves.rounds[0], tensors: 3 }] },
      { ...leaves, rounds: [{ ...leaves.rounds[0], bytes: 101 }] },
    ],
  },
};

describe('every rule', () => {
  test('has examples', () => {
    expect(Object.keys(examples).sort()).toEqual(Object.keys(comparisons).sort());
  });

  test.each(Object.entries(examples))(
    'of %s allows what it should and nothing else',
    (path, { granted, covered, more }) => {
      const of = (value: unknown) => withValue(contract, path, value);

      for (const value of covered)
        expect(asksForMore(of(granted), of(value)), JSON.stringify(value)).toEqual([]);
      for (const value of more)
        expect(asksForMore(of(granted), of(value)), JSON.stringify(value)).toEqual([
          { path, granted, asked: value },
        ]);
      expect(asksForMore(of(granted), of(undefined))).toHaveLength(1);
      expect(asksForMore(of(undefined), of(granted))).toHaveLength(1);
    },
  );

  test.each<[string, unknown, unknown]>([
    ['settings.weightCap', null, 3],
    ['settings.privacy', null, privacy],
    ['settings.privacy', { ...privacy, at: 'coordinator' }, privacy],
    ['settings.robust', { rule: 'mean' }, { rule: 'median' }],
    ['settings.robust', { rule: 'trimmed-mean', share: 0.1 }, { rule: 'trimmed-mean', share: 0.2 }],
    ['settings.robust', { rule: 'multi-krum', byzantine: 1 }, { rule: 'multi-krum', byzantine: 2 }],
    ['settings.training.clipNorm', 0, 5],
  ])('of %s goes one way: %j, then %j', (path, weak, strong) => {
    expect(asksForMore(withValue(contract, path, weak), withValue(contract, path, strong))).toEqual([]);
    expect(asksForMore(withValue(contract, path, strong), withValue(contract, path, weak))).toHaveLength(1);
  });
});
