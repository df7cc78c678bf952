import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillLoraMask } from '../../core/lora/dropout.ts';

const draw = (size: number, options: Partial<Parameters<typeof fillLoraMask>[1]> = {}) => {
  const mask = new Float32Array(size).fill(7);
  fillLoraMask(mask, { probability: 0.3, seed: 1, step: 0, module: 'a', ...options });
  return mask;
};
const shareOf = (mask: Float32Array, value: number) =>
  mask.reduce((count, each) => count + (each === value ? 1 : 0), 0) / mask.length;

describe('fillLoraMask', () => {
  it('holds nothing but 0 and 1 / (1 - p), in the right shares', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.01, max: 0.9, noNaN: true }), fc.integer(), (probability, seed) => {
        const mask = draw(20_000, { probability, seed });
        const [dropped, kept] = [shareOf(mask, 0), shareOf(mask, Math.fround(1 / (1 - probability)))];
        expect(dropped + kept).toBe(1);
        // Five standard deviations.
        const deviation = Math.sqrt((probability * (1 - probability)) / mask.length);
        expect(Math.abs(dropped - probability)).toBeLessThan(5 * deviation);
      }),
      { numRuns: 50, seed: 1 },
    );
  });

  it('is drawn again exactly by seed, step and module', () => {
    expect(draw(1000)).toEqual(draw(1000));
    // A longer mask begins as the shorter one.
    expect(draw(2000).slice(0, 1000)).toEqual(draw(1000));
  });

  it.each([{ seed: 2 }, { step: 1 }, { module: 'b' }])('is unrelated for %o', (other) => {
    const [x, y] = [draw(20_000), draw(20_000, other)];
    let both = 0;
    for (const [index, value] of x.entries()) if (value === 0 && y[index] === 0) both += 1;
    expect(both / x.length).toBeCloseTo(0.09, 2);
  });

  it('neighbouring values are unrelated', () => {
    const mask = draw(50_000);
    let pairs = 0;
    for (let index = 1; index < mask.length; index++) if (mask[index - 1] === 0 && mask[index] === 0) pairs++;
    expect(pairs / mask.length).toBeCloseTo(0.09, 2);
  });

  it('keeps everything at 0', () => {
    expect(shareOf(draw(100, { probability: 0 }), 1)).toBe(1);
  });

  it.each([1, -0.1, Number.NaN])('refuses the probability %d', (probability) => {
    expect(() => draw(1, { probability })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});
