/** A gallery compares what a face and its mirror image have in common, in the real trainer. */
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

test('an image’s nearest one is its own mirror image, also in batches that are not full', async () => {
  const base = await loadBaseModel('face-resnet-128');
  const classes = ['left', 'right'];
  const stateFile = path.join(folder, 'state.safetensors');
  const state = initialState(base, { classes, targetModules: 'default', r: 2, scale: 1, seed: 3 });
  await writeFile(stateFile, encodeModelState(state));
  const write = async (name: string, data: Uint8Array) => {
    const file = path.join(folder, name);
    await writeFile(file, encodeCrop({ width: side, height: side, data }));
    return file;
  };
  const seeds = [1, 2, 3];
  const queries = await Promise.all(
    seeds.map(async (seed) => ({ file: await write(`query-${seed}`, picture(seed)), label: 0 })),
  );
  const images = (
    await Promise.all(
      seeds.map(async (seed) => [
        { file: await write(`mirror-${seed}`, mirrorOf(picture(seed))), label: 0, subject: seed },
        { file: await write(`alike-${seed}`, picture(seed, 30)), label: 1, subject: 10 + seed },
      ]),
    )
  ).flat();
  const job = { baseId: base.id, stateFile, examples: queries, batchSize: 4 };

  const { counts } = await trainer.evaluate({
    ...{ ...job, device: 'cpu', threads: 2 },
    gallery: { images, rare: [] },
  });

  expect(counts.gallery!.rank1).toBe(3);
});
