/** A checkpoint goes on only as it was written. */
import { existsSync, readFileSync, truncateSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { restoreCheckpoint, writeCheckpoint } from '../../core/engine/checkpoint.ts';
import type { Optimiser } from '../../core/engine/optimiser.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { flipBit } from '../fixtures/flip-bit.ts';
import { temporaryFolder } from '../fixtures/store.ts';

/** An optimiser that only remembers. */
function subjectOf(values: number[]) {
  const restored: number[] = [];
  const optimiser = {
    moments: new Map([['m', Float32Array.from(values)]]),
    restore: (step: number) => void restored.push(step),
    step: () => ({ gradientNorm: 0 }),
  } as unknown as Optimiser;
  const parameters = new Map([['w', floatTensor([values.length], Float32Array.from(values))]]);
  return { identity: 'job', wishes: { device: 'cpu' as const, threads: 1 }, parameters, optimiser, restored };
}

const position = { step: 3, images: 12, lossSum: 4.5, events: [] };
const plan = { device: 'cpu' as const, microBatch: 2, lanes: 1 };

test('a flipped bit anywhere in a checkpoint, or a cut end, is noticed, and nothing is restored', async () => {
  using folder = temporaryFolder();
  const file = path.join(folder.dir, 'run.checkpoint');
  const write = () => writeCheckpoint(file, subjectOf([1, 2, 3, 4]), position, plan);
  await write();
  expect(await restoreCheckpoint(file, subjectOf([0, 0, 0, 0]))).toMatchObject({ position: { step: 3 } });

  await fc.assert(
    fc.asyncProperty(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(7),
      fc.boolean(),
      async (at, bit, cut) => {
        await write();
        if (cut) truncateSync(file, Math.floor(at * (readFileSync(file).length - 1)));
        else flipBit(file, at, bit);
        const subject = subjectOf([0, 0, 0, 0]);

        expect(await restoreCheckpoint(file, subject)).toBe('damaged');

        expect([...subject.parameters.get('w')!.data]).toEqual([0, 0, 0, 0]);
        expect(subject.restored).toEqual([]);
        expect(existsSync(file)).toBe(false);
      },
    ),
    { numRuns: 150 },
  );
});
