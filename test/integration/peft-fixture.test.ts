/**
 * Adapters made in Python by Hugging Face PEFT on small random models, read by Anneal: the same logits. The files were
 * written by test/fixtures/peft/peft_models.py; peft-python.test.ts runs the other direction where Python is at hand.
 */
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { writePeftFolder } from '../../core/lora/peft.ts';
import { readPeftAdapter } from '../../core/lora/peft-adapter.ts';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import type { AdaptableLayer, BaseModel } from '../../core/models/base-model.ts';
import { exportPeftFolder, importPeftFolder } from '../../core/models/peft-import.ts';
import { peftNames } from '../../core/models/peft-names.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import type { FloatTensor } from '../../core/shared/tensor.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { adaptedLogits, largestDifference } from '../fixtures/peft/adapted-logits.ts';
import { statesEqual } from '../fixtures/states-equal.ts';

const fixtures = join(import.meta.dirname, '../fixtures/peft');
const classes = ['a', 'b', 'c'];
const openBase = () => openVitFolder(join(fixtures, 'small-vit'), { id: 'small-vit', licence: 'none' });
const readLogits = async (): Promise<Record<string, number[][]>> =>
  JSON.parse(await readFile(join(fixtures, 'logits.json'), 'utf8'));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-peft-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function tensorsOf(dir: string): Promise<ReadonlyMap<string, FloatTensor>> {
  const name = 'adapter_model.safetensors';
  return decodeSafetensors(await readFile(join(dir, name)), name).tensors;
}

describe('an adapter of Hugging Face PEFT', () => {
  it.each(['timm', 'timm-patterns', 'transformers-half', 'transformers-bfloat'])(
    'gives the logits of Python: %s',
    async (name) => {
      const base = await openBase();
      const expected = (await readLogits())[name]!;

      const { state, isOwn } = await importPeftFolder(join(fixtures, name), base, { classes });

      expect(isOwn).toBe(false);
      expect(largestDifference(await adaptedLogits(base, state), expected)).toBeLessThan(1e-4);
      // Without its factors the network says something else: the test can fail.
      const bare = await adaptedLogits(base, { ...state, lora: new Map() });
      expect(largestDifference(bare, expected)).toBeGreaterThan(1e-2);
    },
  );

  it('of convolutions gives the logits of Python', async () => {
    const base = await convolutions();
    const expected = (await readLogits())['convolutions']!;

    const { state } = await importPeftFolder(join(fixtures, 'convolutions'), base, { classes });

    expect([...state.lora.values()].map(({ module, r }) => [module, r])).toEqual([
      ['stem', 2],
      ['body.conv', 3],
      ['body.point', 2],
    ]);
    expect(largestDifference(await adaptedLogits(base, state), expected)).toBeLessThan(1e-4);
  });

  it('splits a fused module into factors of q, k and v that together are the same change', async () => {
    const base = await openBase();
    const adapter = await readPeftAdapter(join(fixtures, 'timm-patterns'));

    const { state } = await importPeftFolder(join(fixtures, 'timm-patterns'), base, { classes });

    const fused = deltaWeight(adapter.layers.get('blocks.1.attn.qkv')!).data;
    const parts = ['q', 'k', 'v'].flatMap((part) => [
      ...deltaWeight(state.lora.get(`blocks.1.attn.${part}`)!).data,
    ]);
    expect(parts).toEqual([...fused]);
  });

  it.each(['timm', 'transformers', 'transformers-4', 'anneal', 'file'] as const)(
    'comes back exactly through files with the names of %s',
    async (names) => {
      const base = await openBase();
      const { state } = await importPeftFolder(join(fixtures, 'transformers-half'), base, { classes });

      await exportPeftFolder(folder, state, base, { names });
      const { state: back, isOwn } = await importPeftFolder(folder, base);

      expect(isOwn).toBe(true);
      expect(statesEqual(back, state)).toBe(true);
      // Read as if another program had written them, the files mean the same.
      const foreign = await withoutAnnealPart(folder);
      const reread = await importPeftFolder(foreign, base, { classes });
      expect(statesEqual(reread.state, state)).toBe(true);
    },
  );

  it('is written again tensor by tensor as Python wrote it', async () => {
    const base = await openBase();
    for (const [name, names] of [
      ['transformers-half', 'transformers'],
      ['transformers-bfloat', 'transformers'],
    ] as const) {
      const { state } = await importPeftFolder(join(fixtures, name), base, { classes });
      await exportPeftFolder(join(folder, name), state, base, { names });
      const sorted = (tensors: ReadonlyMap<string, FloatTensor>) =>
        [...tensors].sort(([x], [y]) => (x < y ? -1 : 1));
      expect(sorted(await tensorsOf(join(folder, name)))).toEqual(
        sorted(await tensorsOf(join(fixtures, name))),
      );
    }
  });

  it('stacks the parts of a fused module into one of the sum of their ranks', async () => {
    const base = await openBase();
    const { state } = await importPeftFolder(join(fixtures, 'transformers-half'), base, { classes });

    await exportPeftFolder(folder, state, base, { names: 'timm', loraDropout: 0.1 });

    const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ r: 8, lora_alpha: 12, lora_dropout: 0.1, modules_to_save: ['head'] });
    const { a, b } = (await readPeftAdapter(await withoutAnnealPart(folder))).layers.get(
      'blocks.0.attn.qkv',
    )!;
    expect([a.dims, b.dims]).toEqual([
      [8, 24],
      [72, 8],
    ]);
    // k has no factors: its rows are zero.
    expect(b.data.subarray(24 * 8, 48 * 8).every((value) => value === 0)).toBe(true);
  });

  it('keeps fresh factors of a fused module, whose B is all zero, to learn from', async () => {
    const base = await openBase();
    const { state } = await importPeftFolder(join(fixtures, 'timm'), base, { classes });
    const fresh: ModelState = {
      ...state,
      lora: new Map([...state.lora].map(([module, layer]) => [module, { ...layer, b: zeros(layer.b) }])),
    };
    await writePeftFolder(folder, fresh, base, { names: peftNames(base, 'timm') });

    const { state: back } = await importPeftFolder(await withoutAnnealPart(folder), base, { classes });

    // Each part has the A of all three.
    expect(back.lora.get('blocks.0.attn.q')!.a.dims).toEqual([12, 24]);
    expect(back.lora.size).toBe(state.lora.size);
  });
});

const zeros = ({ dims, data }: FloatTensor): FloatTensor => ({
  dtype: 'float32',
  dims,
  data: new Float32Array(data.length),
});

/** A copy of a folder as PEFT would write it: it drops what it does not know. */
async function withoutAnnealPart(dir: string): Promise<string> {
  const copy = `${dir}/foreign`;
  const { writeFile } = await import('node:fs/promises');
  const config = JSON.parse(await readFile(join(dir, 'adapter_config.json'), 'utf8'));
  delete config.anneal;
  await cp(join(dir, 'adapter_model.safetensors'), join(copy, 'adapter_model.safetensors'));
  await writeFile(join(copy, 'adapter_config.json'), JSON.stringify(config));
  return copy;
}

/** `SmallConvolutions` of peft_models.py without its classifier; pixels are scaled to 0…1. */
async function convolutions(): Promise<BaseModel> {
  const name = 'convolutions.safetensors';
  const weights = decodeSafetensors(await readFile(join(fixtures, name)), name).tensors;
  const layers = ['stem', 'body.conv', 'body.point'].map((module, block): AdaptableLayer => {
    const weight = `${module}.weight`;
    return { module, kind: 'conv', weight, weightDims: weights.get(weight)!.dims, block };
  });
  return {
    id: 'small-convolutions',
    sha256: 'cd'.repeat(32),
    inputSize: 12,
    alignment: 'none',
    embeddingSize: 5,
    licence: 'none',
    weights,
    layers,
    presets: {},
    headGain: 1,
    buildGraph(batch) {
      const builder = new GraphBuilder();
      const scaled = builder.div(builder.input('pixels', 'float32', [batch, 3, 12, 12]), builder.scalar(255));
      const conv = (module: string, x: string, options = {}) => {
        const [weight, bias] = ['weight', 'bias'].map((kind) => {
          const key = `${module}.${kind}`;
          return builder.constant(weights.get(key)!, key);
        }) as [string, string];
        return builder.conv(x, weight, { bias, ...options });
      };
      const stem = builder.relu(conv('stem', scaled, { strides: [2, 2], pads: [1, 1, 1, 1] }));
      const point = conv('body.point', builder.relu(conv('body.conv', stem)));
      builder.output(builder.reduceMean(point, [2, 3], false), 'embedding');
      return builder.build();
    },
  };
}
