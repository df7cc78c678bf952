import { describe, expect, test } from 'vitest';
import {
  defaultLeakLimits,
  hardlyCompresses,
  type LeakReport,
  leakReasons,
  leakReportSchema,
  leakTestVersion,
} from '../../core/config/leak-report.ts';
import { requireCompression } from '../../core/policy/leak-test-service.ts';

const honest: LeakReport = {
  testVersion: leakTestVersion,
  correlation: 0.2,
  ssim: 0.19,
  meanFaceSsim: 0.17,
  embeddingSize: 128,
  inputValues: 67_500,
  layers: 30,
  heldOutFaces: 112,
};

/** For each limit: a report just within it, and one beyond it. */
const edges: [keyof typeof defaultLeakLimits, Partial<LeakReport>, Partial<LeakReport>, string][] = [
  ['correlation', { correlation: 0.6 }, { correlation: 0.601 }, 'correlate'],
  ['ssim', { ssim: 0.4 }, { ssim: 0.401 }, 'structural similarity'],
  ['embeddingShare', { embeddingSize: 8_437 }, { embeddingSize: 8_438 }, '8438 numbers'],
  ['layers', { layers: 3 }, { layers: 2 }, '2 layers'],
];

describe('the verdict', () => {
  test('every limit has an edge here', () => {
    expect(edges.map(([limit]) => limit).sort()).toEqual(Object.keys(defaultLeakLimits).sort());
  });

  test.each(edges)('%s: at the limit it passes, beyond it does not', (_limit, within, beyond, words) => {
    expect(hardlyCompresses({ ...honest, ...within })).toBe(false);
    expect(leakReasons({ ...honest, ...beyond })).toEqual([expect.stringContaining(words)]);
  });

  test('a refusal gives every reason, and limits of one’s own count', () => {
    const leaky = { ...honest, correlation: 0.9, ssim: 0.7, embeddingSize: 67_500, layers: 1 };

    expect(() => requireCompression('flat', leaky)).toThrow(
      /"flat" hardly compresses images: .*0\.90.*0\.70.*67500.*1 layer /,
    );
    expect(() =>
      requireCompression('flat', leaky, { correlation: 1, ssim: 1, embeddingShare: 1, layers: 0 }),
    ).not.toThrow();
    expect(() => requireCompression('strict', honest, { ...defaultLeakLimits, correlation: 0.1 })).toThrow(
      'limit 0.1',
    );
  });
});

describe('the report from outside', () => {
  test.each([
    ['a score above 1', { correlation: 1.01 }],
    ['a score that is no number', { ssim: Number.NaN }],
    ['an embedding of nothing', { embeddingSize: 0 }],
    ['half a layer', { layers: 0.5 }],
    ['a width beyond all bounds', { inputValues: 1e15 }],
    ['a field nobody knows', { verdict: 'fine' }],
  ])('refuses %s', (_name, change) => {
    expect(leakReportSchema.safeParse(honest).success).toBe(true);
    expect(leakReportSchema.safeParse({ ...honest, ...change }).success).toBe(false);
  });
});
