import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { decodeSafetensors, encodeSafetensors } from '../../core/lora/safetensors.ts';
import { encodeMergedWeights, writeAdapter } from '../../core/models/adapter-files.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { exportPeftFolder, importPeftFolder } from '../../core/models/peft-import.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';

const fixtures = join(import.meta.dirname, '../fixtures/peft');
const classes = ['a', 'b', 'c'];
const weightsName = 'adapter_model.safetensors';
const configName = 'adapter_config.json';
let base: BaseModel;
let root: string;
let folder: string;

beforeAll(async () => {
  base = await openVitFolder(join(fixtures, 'small-vit'), { id: 'small-vit', licence: 'none' });
});
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'anneal-peft-'));
  folder = join(root, 'adapter');
  await cp(join(fixtures, 'timm'), folder, { recursive: true });
});
afterEach(async () => {
  await rm(root, { recursive: true });
});

async function changeConfig(change: Record<string, unknown>): Promise<void> {
  const config = JSON.parse(await readFile(join(folder, configName), 'utf8'));
  await writeFile(join(folder, configName), JSON.stringify({ ...config, ...change }));
}

async function changeTensors(change: (tensors: Map<string, FloatTensor>) => void): Promise<void> {
  const tensors = new Map(decodeSafetensors(await readFile(join(folder, weightsName)), weightsName).tensors);
  change(tensors);
  await writeFile(join(folder, weightsName), encodeSafetensors(tensors, { format: 'pt' }));
}

const qkv = 'base_model.model.blocks.0.attn.qkv';

describe('a PEFT folder that Anneal cannot read is refused, naming why', () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['another method', { peft_type: 'IA3' }, /the method IA3/],
    ['DoRA', { use_dora: true }, /DoRA \(use_dora\)/],
    ['trained biases', { bias: 'lora_only' }, /trained biases \(bias "lora_only"\)/],
    ['biases on the factors', { lora_bias: true }, /lora_bias/],
    ['replicated layers', { layer_replication: [[0, 2]] }, /layer_replication/],
    ['a start that changes the base', { init_lora_weights: 'pissa' }, /init_lora_weights "pissa"/],
    ['another rank than the tensors', { r: 5 }, /has rank 5, but lora_A .* \[4, 24\]/],
    ['a rank that is none', { r: 0 }, /"r" is not what PEFT writes/],
    [
      'a pattern that cannot be read',
      { rank_pattern: { '(?=q)': 4 } },
      /adapter_config.json.*"\(\?=q\)".*cannot be read/,
    ],
    ['an alpha of zero', { lora_alpha: 0 }, /"lora_alpha" is not what PEFT writes/],
  ])('%s', async (_what, change, message) => {
    await changeConfig(change);
    await expect(importPeftFolder(folder, base, { classes })).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(message),
    });
  });

  it.each<[string, (tensors: Map<string, FloatTensor>) => void, RegExp]>([
    ['a factor without the other', (t) => t.delete(`${qkv}.lora_B.weight`), /qkv.lora_B.weight" is missing/],
    [
      'DoRA magnitudes',
      (t) => t.set(`${qkv}.lora_magnitude_vector.weight`, floatTensor([72])),
      /lora_magnitude_vector/,
    ],
    [
      'a tensor of no adapter',
      (t) => t.set('something', floatTensor([1])),
      /"something" is of a kind that Anneal does not read/,
    ],
    [
      'a second trained module',
      (t) => t.set('base_model.model.norm.weight', floatTensor([24])),
      /"norm.weight" was not expected/,
    ],
    [
      'a layer that the base does not have',
      (t) => {
        for (const side of ['A', 'B'])
          t.set(
            `base_model.model.blocks.9.attn.qkv.lora_${side}.weight`,
            t.get(`${qkv}.lora_${side}.weight`)!,
          );
      },
      /adapts "blocks.9.attn.qkv", which is not a layer of the base model small-vit/,
    ],
    [
      'factors of another width',
      (t) => t.set(`${qkv}.lora_A.weight`, floatTensor([4, 12])),
      /lora_A of "blocks.0.attn.qkv" .*\[4, 12\].*\[4, 24\]/,
    ],
    [
      'values that are no numbers',
      (t) => t.get(`${qkv}.lora_A.weight`)!.data.fill(Number.NaN, 3, 4),
      /qkv.lora_A.weight" holds values that are not finite/,
    ],
    [
      'a head of another width',
      (t) => t.set('base_model.model.head.weight', floatTensor([3, 7])),
      /"head" has the shape \[3, 7\]: expected \[classes, 24\]/,
    ],
    [
      'the same layer twice',
      (t) => {
        t.set('base_model.model.blocks.0.attn.q.lora_A.weight', floatTensor([4, 24]));
        t.set('base_model.model.blocks.0.attn.q.lora_B.weight', floatTensor([24, 4]));
      },
      /adapts "blocks.0.attn.q" twice/,
    ],
  ])('%s', async (_what, change, message) => {
    await changeTensors(change);
    await expect(importPeftFolder(folder, base, { classes })).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(message),
    });
  });

  it.each<[string, string]>([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['empty', ''],
  ])('a configuration that is %s', async (_what, text) => {
    await writeFile(join(folder, configName), text);
    await expect(importPeftFolder(folder, base, { classes })).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
    });
  });

  it('classes that do not fit the head', async () => {
    await expect(importPeftFolder(folder, base)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/3 classes of its head/),
    });
    await expect(importPeftFolder(folder, base, { classes: ['a', 'b'] })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });

  it('an adapter of another base model', async () => {
    const { state } = await importPeftFolder(folder, base, { classes });
    const own = join(root, 'own');
    await exportPeftFolder(own, state, base);
    await expect(importPeftFolder(own, { ...base, sha256: '00'.repeat(32) })).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    });
  });
});

describe('adapters on the way out', () => {
  it('a head reads the embedding itself in Python and comes back exactly', async () => {
    const { state } = await importPeftFolder(folder, base, { classes });
    const louder = { ...base, headGain: 8 };
    const target = join(root, 'out');

    await exportPeftFolder(target, state, louder);

    const { tensors } = decodeSafetensors(await readFile(join(target, weightsName)), weightsName);
    const own = state.head.get('weight')!;
    expect(tensors.get('base_model.model.head.weight')!.data[4]).toBe(8 * own.data[4]!);
    expect((await importPeftFolder(target, louder)).state.head.get('weight')).toEqual(own);
    const merged = decodeSafetensors(encodeMergedWeights(state, louder), 'merged').tensors;
    expect(merged.get('head.weight')!.data[4]).toBe(8 * own.data[4]!);
  });

  it('names of a library that does not have the network are refused', async () => {
    const other = shapeOnlyBase();
    const state = { baseSha256: other.sha256, classes, lora: new Map(), head: new Map(), base: new Map() };
    await expect(exportPeftFolder(join(root, 'out'), state, other, { names: 'timm' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });

  it('a target that cannot be written is one clear sentence', async () => {
    const { state } = await importPeftFolder(folder, base, { classes });
    const file = join(root, 'file');
    await writeFile(file, 'x');
    await expect(writeAdapter(join(file, 'sub'), state, base)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    await mkdir(join(root, 'dir'));
    await expect(writeAdapter(join(root, 'dir'), state, base, { format: 'weights' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
  });
});
