import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mirrorPlanes } from '../../core/engine/mirror-planes.ts';
import type { GraphBuilder } from '../../core/graph/graph-builder.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { averaged, embedSquares } from '../fixtures/embed-squares.ts';
import { sketchBase } from '../fixtures/leaky-networks.ts';

const side = 6;
/** A linear network without symmetry: the mirrored picture has another embedding. */
const base: BaseModel = sketchBase('linear', side, (builder: GraphBuilder, pixels, weight) =>
  builder.gemm(builder.flatten(pixels), weight([5, 3 * side ** 2], 0.01), undefined, { transB: true }),
);
const square = (seed: number) => {
  const random = createRandom(seed);
  return Uint8Array.from({ length: 3 * side * side }, () => random.integer(256));
};
const mirrorOf = (picture: Uint8Array) =>
  Uint8Array.from(picture, (_, at) => {
    const [pixel, channel] = [Math.floor(at / 3), at % 3];
    const [row, column] = [Math.floor(pixel / side), pixel % side];
    return picture[3 * (row * side + side - 1 - column) + channel]!;
  });
const lengthOf = (vector: Float32Array) => Math.hypot(...vector);

describe('embeddings for comparing faces', () => {
  test('have length 1, and are the same whatever stands beside them', async () => {
    const squares = Array.from({ length: 19 }, (_, index) => square(index));

    const all = await embedSquares(base, squares, { flip: true });
    const [alone] = await embedSquares(base, [squares[17]!], { flip: true });

    expect(all).toHaveLength(19);
    for (const embedding of all) expect(lengthOf(embedding)).toBeCloseTo(1, 5);
    for (const [index, value] of alone!.entries()) expect(value).toBeCloseTo(all[17]![index]!, 5);
  });

  test('averaged with the mirrored picture are the same for the picture and its mirror image', async () => {
    const pictures = [square(3), mirrorOf(square(3))];

    const [plain, plainMirrored] = await embedSquares(base, pictures, { flip: false });
    const [both, bothMirrored] = await embedSquares(base, pictures, { flip: true });

    for (const [index, value] of both!.entries()) expect(value).toBeCloseTo(bothMirrored![index]!, 5);
    expect(plain!.some((value, index) => Math.abs(value - plainMirrored![index]!) > 0.05)).toBe(true);
    const expected = averaged(plain!, plainMirrored!);
    for (const [index, value] of both!.entries()) expect(value).toBeCloseTo(expected[index]!, 5);
  });

  test('both halves count alike, however long the network makes them', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.01, max: 100, noNaN: true }), (factor) => {
        const [a, b] = [Float32Array.of(3, 4), Float32Array.of(-4, 3).map((value) => value * factor)];
        const mean = averaged(a, b);
        expect(mean[0]).toBeCloseTo(-0.1414, 3);
        expect(mean[1]).toBeCloseTo(0.9899, 3);
      }),
    );
  });

  test('of nothing are nothing', () => {
    expect([...averaged(new Float32Array(3), new Float32Array(3))]).toEqual([0, 0, 0]);
  });

  test('mirroring twice gives the picture again', () => {
    const planes = floatTensor([3, side, side]).data.map((_, index) => index);
    const twice = planes.slice();
    mirrorPlanes(twice, side);
    expect(twice[0]).toBe(side - 1);
    mirrorPlanes(twice, side);
    expect([...twice]).toEqual([...planes]);
  });
});
