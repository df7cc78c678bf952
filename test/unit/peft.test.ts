import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModelState } from '../../core/lora/model-state.ts';
import { readPeftFolder, writePeftFolder } from '../../core/lora/peft.ts';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { randomLayer, randomTensor } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';

const base = { id: 'face-resnet-128', sha256: '12'.repeat(32) };
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-peft-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

function state(ranks: readonly number[], options: { base?: boolean; scale?: number } = {}): ModelState {
  const random = createRandom(1);
  const { scale = 0.3 } = options;
  const layers = [
    randomLayer('conv1', [4, 3, 3, 3], ranks[0]!, scale, random),
    randomLayer('block.conv1', [6, 4, 3, 3], ranks[1]!, scale, random),
    randomLayer('block.q', [5, 6], ranks[2]!, scale, random),
  ];
  return {
    baseSha256: base.sha256,
    classes: ['unaffected', 'é'],
    lora: new Map(layers.map((layer) => [layer.module, layer])),
    head: new Map([
      ['weight', randomTensor([2, 5], random)],
      ['bias', randomTensor([2], random)],
    ]),
    base: new Map(options.base ? [['conv1.weight', randomTensor([4, 3, 3, 3], random)]] : []),
  };
}
const readConfig = async () => JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));

describe('PEFT folders', () => {
  it.each<[string, ModelState]>([
    ['equal ranks', state([3, 3, 3])],
    ['different ranks', state([1, 4, 2])],
    ['a scale that no division gives back', state([3, 3, 7], { scale: 0.1 + 0.2 })],
    ['layers without factors yet', state([0, 0, 0], { base: true })],
    ['trained base weights', state([2, 2, 2], { base: true })],
    ['a head alone', { ...state([1, 1, 1]), lora: new Map() }],
  ])('give back exactly %s', async (_what, written) => {
    await writePeftFolder(folder, written, base);
    expect((await readPeftFolder(folder)).state).toEqual(written);
  });

  it('have the names, shapes and settings of PEFT', async () => {
    await writePeftFolder(folder, state([3, 3, 3], { scale: 2 }), base);

    const config = await readConfig();
    expect(config).toMatchObject({
      peft_type: 'LORA',
      base_model_name_or_path: 'face-resnet-128',
      r: 3,
      lora_alpha: 6,
      target_modules: ['conv1', 'block.conv1', 'block.q'],
      rank_pattern: {},
      alpha_pattern: {},
      modules_to_save: ['classifier'],
    });
    const bytes = await readFile(join(folder, 'adapter_model.safetensors'));
    const { tensors } = decodeSafetensors(bytes, 'x');
    expect(Object.fromEntries([...tensors].map(([name, { dims }]) => [name, dims]))).toEqual({
      'base_model.model.conv1.lora_A.weight': [3, 3, 3, 3],
      'base_model.model.conv1.lora_B.weight': [4, 3, 1, 1],
      'base_model.model.block.conv1.lora_A.weight': [3, 4, 3, 3],
      'base_model.model.block.conv1.lora_B.weight': [6, 3, 1, 1],
      'base_model.model.block.q.lora_A.weight': [3, 6],
      'base_model.model.block.q.lora_B.weight': [5, 3],
      'base_model.model.classifier.weight': [2, 5],
      'base_model.model.classifier.bias': [2],
    });
  });

  it('give every layer its own rank and alpha, as PEFT looks them up', async () => {
    const written = state([1, 4, 2], { scale: 2 });
    await writePeftFolder(folder, written, base);
    const config = await readConfig();
    // PEFT takes the first key that the module's name is or ends with.
    const lookUp = (pattern: Record<string, number>, module: string, common: number) => {
      const key = Object.keys(pattern).find((each) => module === each || module.endsWith(`.${each}`));
      return key === undefined ? common : pattern[key];
    };
    for (const { module, r, scale } of written.lora.values()) {
      expect(lookUp(config.rank_pattern, module, config.r)).toBe(r);
      expect(lookUp(config.alpha_pattern, module, config.lora_alpha)).toBe(scale * r);
    }
  });

  it('can be written over an older export and leave other files alone', async () => {
    await writeFile(join(folder, 'README.md'), 'mine');
    await writePeftFolder(folder, state([2, 2, 2], { base: true }), base);
    const newer = state([1, 4, 2]);
    await writePeftFolder(folder, newer, base);
    expect(statesEqual((await readPeftFolder(folder)).state, newer)).toBe(true);
    expect((await readdir(folder)).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
    ]);
  });

  it('refuse to be written for another base model', async () => {
    const other = { id: 'other', sha256: '34'.repeat(32) };
    await expect(writePeftFolder(folder, state([1, 1, 1]), other)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it('leave nothing half-written when a file cannot be put in place', async () => {
    const { mkdir } = await import('node:fs/promises');
    await mkdir(join(folder, 'adapter_model.safetensors'));
    await expect(writePeftFolder(folder, state([1, 1, 1]), base)).rejects.toThrow();
    expect(await readdir(folder)).toEqual(['adapter_model.safetensors']);
  });

  it.each<[string, (folder: string) => Promise<void>, RegExp]>([
    [
      'a folder without configuration',
      (dir) => rm(join(dir, 'adapter_config.json')),
      /adapter_config.json.*cannot be read/,
    ],
    [
      'a folder without weights',
      (dir) => rm(join(dir, 'adapter_model.safetensors')),
      /adapter_model.safetensors.*cannot be read/,
    ],
    [
      'a configuration that is not JSON',
      (dir) => writeFile(join(dir, 'adapter_config.json'), '{'),
      /adapter that Anneal exported/,
    ],
    [
      'an adapter of another program',
      (dir) => writeFile(join(dir, 'adapter_config.json'), '{"peft_type":"LORA","r":8}'),
      /adapter that Anneal exported/,
    ],
    [
      'weights of another adapter',
      async (dir) => {
        const bytes = await readFile(join(dir, 'adapter_model.safetensors'));
        bytes[bytes.length - 1]! ^= 1;
        await writeFile(join(dir, 'adapter_model.safetensors'), bytes);
      },
      /adapter_model.safetensors.*SHA-256/,
    ],
    [
      'layers that the weights do not have',
      async (dir) => {
        const file = join(dir, 'adapter_config.json');
        const config = JSON.parse(await readFile(file, 'utf8'));
        config.anneal.layers[0].module = 'conv9';
        await writeFile(file, JSON.stringify(config));
      },
      /conv9.lora_A.weight" is missing/,
    ],
  ])('refuse %s', async (_what, damage, message) => {
    await writePeftFolder(folder, state([1, 2, 3]), base);
    await damage(folder);
    await expect(readPeftFolder(folder)).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(message),
    });
  });

  it('keep values exactly, down to subnormal numbers and signed zero', async () => {
    const values = Float32Array.of(-0, 1e-44, 3.4028234663852886e38, 1 / 3);
    const written = { ...state([1, 1, 1]), head: new Map([['bias', floatTensor([4], values)]]) };
    await writePeftFolder(folder, written, base);
    const { state: read } = await readPeftFolder(folder);
    expect(read.head.get('bias')!.data).toEqual(values);
    expect(Object.is(read.head.get('bias')!.data[0], -0)).toBe(true);
  });
});
