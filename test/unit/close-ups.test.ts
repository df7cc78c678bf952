/** Whatever square a large face fills, one of the windows shows it about as the networks want it. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { closeUpWindows } from '../../core/engine/faces/close-ups.ts';

const picture = fc
  .tuple(fc.integer({ min: 16, max: 400 }), fc.double({ min: 1, max: 2.4, noNaN: true }), fc.boolean())
  .map(([shorter, ratio, isWide]) => {
    const longer = Math.round(shorter * ratio);
    return isWide ? { width: longer, height: shorter } : { width: shorter, height: longer };
  });
const share = fc.double({ min: 0, max: 1, noNaN: true });

describe('windows for close-ups', () => {
  test('one of them is a tenth larger than a face or smaller, and moved by a tenth or less', () => {
    fc.assert(
      fc.property(picture, share, share, share, (size, ofSides, right, down) => {
        const { width, height } = size;
        const [shorter, longer] = [Math.min(width, height), Math.max(width, height)];
        // From seven tenths of the shorter side to all of the longer one.
        const side = 0.7 * shorter + ofSides * (longer - 0.7 * shorter);
        const place = (length: number, at: number) => length / 2 + (at - 0.5) * Math.max(0, length - side);
        const [x, y] = [place(width, right), place(height, down)];

        const windows = closeUpWindows(size);

        const fits = windows.some((window) => {
          const own = window.right - window.left;
          const [offX, offY] = [(window.left + window.right) / 2 - x, (window.top + window.bottom) / 2 - y];
          return (
            Math.max(own / side, side / own) <= 1.101 &&
            Math.max(Math.abs(offX), Math.abs(offY)) <= 0.101 * Math.max(own, side)
          );
        });
        expect(fits).toBe(true);
        expect(windows.length).toBeLessThanOrEqual(250);
      }),
      { numRuns: 500 },
    );
  });

  test('are square, and some reach over each border', () => {
    const windows = closeUpWindows({ width: 320, height: 240 });

    for (const { left, top, right, bottom } of windows) expect(right - left).toBeCloseTo(bottom - top, 9);
    expect(Math.min(...windows.map(({ left }) => left))).toBeLessThan(0);
    expect(Math.min(...windows.map(({ top }) => top))).toBeLessThan(0);
    expect(Math.max(...windows.map(({ right }) => right))).toBeGreaterThan(320);
    expect(Math.max(...windows.map(({ bottom }) => bottom))).toBeGreaterThan(240);
  });

  test.each([
    [3000, 1],
    [1, 1000],
    [300, 100],
  ])('there are none of a strip of %i × %i pixels', (width, height) => {
    expect(closeUpWindows({ width, height })).toEqual([]);
  });
});
