/** With flip averaging an evaluation takes what a face and its mirror image have in common, in the real trainer. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeCrop } from '../../core/data/crop-file.ts';
import { startTrainer, type TrainerHandle } from '../../core/engine/trainer.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';

const side = 150;
let folder: string;
let trainer: TrainerHandle;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-gallery-'));
  trainer = startTrainer();
});
afterAll(async () => {
  await trainer?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Blocks of one colour, left other than right; `noise` in grey levels. */
function picture(seed: number, noise = 0): Uint8Array {
  const random = createRandom(seed);
  const blocks = Array.from({ length: 100 }, () => random.integer(200));
  return Uint8Array.from({ length: 3 * side * side }, (_, at) => {
    const [row, column] = [Math.floor(at / 3 / side), Math.floor(at / 3) % side];
    const block = blocks[10 * Math.floor(row / 15) + Math.floor(column / 15)]!;
    return block + (noise === 0 ? 0 : (at * 7919) % noise);
  });
}

function mirrorOf(rgb: Uint8Array): Uint8Array {
  return Uint8Array.from(rgb, (_, at) => {
    const [pixel, channel] = [Math.floor(at / 3), at % 3];
    const [row, column] = [Math.floor(pixel / side), pixel % side];
    return rgb[3 * (row * side + side - 1 - column) + channel]!;
  });
}

test('a face and its mirror image are the same to the gallery and to the head, also in batches that are not full', async () => {
  const base = await loadBaseModel('face-resnet-128');
  const classes = ['left', 'right'];
  const stateFile = path.join(folder, 'state.safetensors');
  const state = initialState(base, { classes, targetModules: 'default', r: 2, scale: 1, seed: 3 });
  await writeFile(stateFile, encodeModelState(state));
  const write = async (name: string, data: Uint8Array, label: number, subject: number) => {
    const file = path.join(folder, name);
    await writeFile(file, encodeCrop({ width: side, height: side, data }));
    return { file, label, subject };
  };
  const seeds = [1, 2, 3];
  const queries = await Promise.all(seeds.map((seed) => write(`query-${seed}`, picture(seed), 0, seed)));
  const mirrors = await Promise.all(
    seeds.map((seed) => write(`mirror-${seed}`, mirrorOf(picture(seed)), 0, 10 + seed)),
  );
  const alike = await Promise.all(
    seeds.map((seed) => write(`alike-${seed}`, picture(seed, 8), 1, 20 + seed)),
  );
  const evaluate = (examples: typeof queries, flip: boolean) =>
    trainer.evaluate({
      ...{ baseId: base.id, stateFile, batchSize: 4, device: 'cpu', threads: 2, flip },
      examples: examples.map(({ file, label }) => ({ file, label })),
      gallery: { images: [...mirrors, ...alike], rare: [] },
    });

  const [averaged, without] = [await evaluate(queries, true), await evaluate(queries, false)];
  const [mirroredWith, mirroredWithout] = [await evaluate(mirrors, true), await evaluate(mirrors, false)];

  expect([averaged.counts.gallery!.rank1, without.counts.gallery!.rank1]).toEqual([3, 0]);
  expect(mirroredWith.meanLoss).toBeCloseTo(averaged.meanLoss, 5);
  expect(Math.abs(mirroredWithout.meanLoss - without.meanLoss)).toBeGreaterThan(1e-3);
});
