import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { jobIdentity } from '../../core/engine/checkpoint.ts';
import { startTrainer } from '../../core/engine/trainer.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { trainedState } from '../fixtures/random-state.ts';
import { shapeClasses, shapeJob, writeShapeCrops } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const model = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));

test('a job that trains one factor moves it and leaves the other bit for bit, decay and pull included', async () => {
  using folder = temporaryFolder();
  const modelsFolder = path.join(folder.dir, 'models');
  const catalogue = createCatalogue(modelsFolder);
  await catalogue.import(model, { id: 'dino' });
  const base = await catalogue.load('dino');
  const options = { classes: shapeClasses, targetModules: 'default', r: 2, scale: 2, seed: 1 };
  // Both factors away from zero, so that both would have gradients.
  const start = trainedState(initialState(base, options), 4);
  const stateFile = path.join(folder.dir, 'start.safetensors');
  await writeFile(stateFile, encodeModelState(start));
  const examples = await writeShapeCrops(path.join(folder.dir, 'images'), 3, 1);
  await using trainer = startTrainer({ modelsFolder });

  for (const trains of ['a', 'b'] as const) {
    const outFile = path.join(folder.dir, `${trains}.safetensors`);
    const training = { weightDecay: 0.1, proximal: 0.5, batchSize: 3, learningRate: 0.01 };
    await trainer.train(shapeJob({ stateFile, outFile }, examples, { baseId: 'dino', trains, training }));
    const trained = decodeModelState(await readFile(outFile), 'trained');

    for (const [module, before] of start.lora) {
      const after = trained.lora.get(module)!;
      const [moved, still] = trains === 'a' ? (['a', 'b'] as const) : (['b', 'a'] as const);
      expect(after[still], `${module} ${trains}`).toEqual(before[still]);
      expect(after[moved], `${module} ${trains}`).not.toEqual(before[moved]);
    }
    expect(trained.head).not.toEqual(start.head);
  }
});

test('a checkpoint of a job that trains one factor is none of a job that trains the other', () => {
  const identities = (['both', 'a', 'b'] as const).map((trains) =>
    jobIdentity(shapeJob({ stateFile: '', outFile: '' }, [], { trains }), 'base', 'state'),
  );

  expect(new Set(identities).size).toBe(3);
});
