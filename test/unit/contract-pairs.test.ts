/** For random pairs of contracts, an approval holds only if no field asks for more. */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runConfigSchema } from '../../core/config/run-config.ts';
import { comparisons } from '../../core/policy/asks-for-more.ts';
import { type Contract, contractSchema } from '../../core/policy/contract.ts';
import { coverageOf } from '../../core/policy/standing-approval.ts';
import { valueAt, withValue } from '../fixtures/contract-values.ts';
import { arbitraryOf } from '../fixtures/zod-arbitrary.ts';

type Leaves = Contract['leaves'];
const small = fc.integer({ min: 1, max: 4 });
/** From few names and sizes, so that one often lies within another. */
const leavesArbitrary: fc.Arbitrary<Leaves> = fc.record({
  precision: fc.constantFrom('fp32' as const, 'fp16' as const, 'int8' as const),
  tensors: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b', 'head'),
      dims: fc.array(small, { minLength: 1, maxLength: 2 }),
    }),
    {
      selector: ({ name }) => name,
      maxLength: 3,
    },
  ),
  rounds: fc.array(
    fc.record({
      ...{ from: fc.constant(0), to: fc.constant(1), mode: fc.constant('lora' as const), rank: small },
      ...{ sends: fc.constant('both' as const), tensors: small, values: small, bytes: small },
    }),
    { minLength: 1, maxLength: 2 },
  ),
  bytes: small,
});
const contractArbitrary = fc
  .tuple(arbitraryOf(contractSchema.omit({ leaves: true })), leavesArbitrary)
  .map(([rest, leaves]) => ({ ...(rest as object), leaves }) as Contract);

/** A contract, and the same with some fields of another one: of those with rules, and now and then of any. */
const pairs = fc
  .tuple(
    contractArbitrary,
    contractArbitrary,
    fc.subarray(Object.keys(comparisons), { maxLength: 4 }),
    fc.option(fc.constantFrom(...Object.keys(runConfigSchema.shape)), { freq: 6 }),
  )
  .map(([granted, other, ruled, any]) => {
    const changed = any === null ? ruled : [...ruled, `settings.${any}`];
    const asked = changed.reduce((at, path) => withValue(at, path, valueAt(other, path)), granted);
    return { granted, asked, other };
  });

const bits = { fp32: 32, fp16: 16, int8: 8 };

/** Written for this test from the sentences of the issue, not from the table of rules. */
function mayBeAsked(granted: Contract, asked: Contract): boolean {
  const { settings: was, leaves: leaving, minContributors: least, ...wasRest } = granted;
  const { settings: is, leaves: wanted, minContributors: now, ...isRest } = asked;
  const common = ({
    title,
    note,
    seed,
    roundDeadlineMs,
    classes,
    rounds,
    rMax,
    quorum,
    smallCell,
    wire,
    privacy,
    robust,
    weightCap,
    training,
    ...rest
  }: Contract['settings']) => {
    const { up: _up, ...otherWire } = wire;
    const { batchSize: _batch, clipNorm: _clip, ...otherTraining } = training;
    return { ...rest, otherWire, otherTraining };
  };
  return (
    isDeepStrictEqual(wasRest, isRest) &&
    isDeepStrictEqual(common(was), common(is)) &&
    new Set([...was.classes, ...is.classes]).size === new Set(was.classes).size &&
    Math.max(was.rounds, is.rounds) === was.rounds &&
    Math.max(was.rMax, is.rMax) === was.rMax &&
    Math.min(was.quorum, is.quorum) === was.quorum &&
    Math.min(was.smallCell, is.smallCell) === was.smallCell &&
    Math.min(was.training.batchSize, is.training.batchSize) === was.training.batchSize &&
    Math.min(least, now) === least &&
    bits[is.wire.up] <= bits[was.wire.up] &&
    (is.weightCap ?? Infinity) <= (was.weightCap ?? Infinity) &&
    (is.training.clipNorm || Infinity) <= (was.training.clipNorm || Infinity) &&
    isAsPrivate(was.privacy, is.privacy) &&
    isAsGuarded(was.robust, is.robust) &&
    leavesLess(leaving, wanted)
  );
}

function isAsPrivate(was: Contract['settings']['privacy'], is: Contract['settings']['privacy']): boolean {
  if (was === null) return true;
  if (is === null || (was.at === 'site' && is.at === 'coordinator')) return false;
  return !(is.clipNorm > was.clipNorm || is.noiseMultiplier < was.noiseMultiplier || is.delta > was.delta);
}

function isAsGuarded(was: Contract['settings']['robust'], is: Contract['settings']['robust']): boolean {
  if (was.rule === 'mean') return true;
  if (was.rule !== is.rule) return false;
  const strength = (one: typeof was) =>
    ({
      mean: 0,
      median: 0,
      'norm-bound': -(('factor' in one && one.factor) || 0),
      'trimmed-mean': ('share' in one && one.share) || 0,
      'multi-krum': ('byzantine' in one && one.byzantine) || 0,
    })[one.rule];
  return strength(is) >= strength(was);
}

function leavesLess(was: Leaves, is: Leaves): boolean {
  const largestRound = (key: 'tensors' | 'values' | 'bytes', of: Leaves) =>
    Math.max(...of.rounds.map((round) => round[key]));
  return (
    bits[is.precision] <= bits[was.precision] &&
    is.bytes <= was.bytes &&
    (['tensors', 'values', 'bytes'] as const).every(
      (key) => largestRound(key, is) <= largestRound(key, was),
    ) &&
    is.tensors.every((tensor) =>
      was.tensors.some(
        ({ name, dims }) =>
          name === tensor.name &&
          dims.length === tensor.dims.length &&
          tensor.dims.every((size, axis) => size <= dims[axis]!),
      ),
    )
  );
}

describe('for random pairs of contracts', () => {
  const at = { runsBefore: 0, at: '2026-12-01T00:00:00.000Z' };
  const covers = (granted: Contract, asked: Contract) =>
    coverageOf({ granted, runs: 1, until: null }, asked, at).covers;

  test('an approval holds if no field asks for more, and only then', () => {
    const seen = { covered: 0, more: 0 };
    fc.assert(
      fc.property(pairs, ({ granted, asked, other }) => {
        const isCovered = covers(granted, asked);
        expect(isCovered).toBe(mayBeAsked(granted, asked));
        expect(covers(granted, granted)).toBe(true);
        expect(covers(granted, other)).toBe(mayBeAsked(granted, other));
        seen[isCovered ? 'covered' : 'more'] += 1;
      }),
      { numRuns: 1000 },
    );
    expect(seen.covered).toBeGreaterThan(100);
    expect(seen.more).toBeGreaterThan(100);
  });

  test('what is covered by what is covered is covered', () => {
    fc.assert(
      fc.property(
        pairs,
        fc.subarray(Object.keys(comparisons), { maxLength: 2 }),
        contractArbitrary,
        ({ granted, asked }, paths, third) => {
          const further = paths.reduce((whole, path) => withValue(whole, path, valueAt(third, path)), asked);
          if (covers(granted, asked) && covers(asked, further)) expect(covers(granted, further)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});
