import { describe, expect, test } from 'vitest';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { createVit } from '../../core/models/vit.ts';
import { type VitConfig, vitTiny } from '../../core/models/vit-config.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { countVitParameters, randomVitWeights } from '../fixtures/base-models.ts';

const small: VitConfig = { ...vitTiny, id: 'vit-small-test', imageSize: 32, layers: 2 };

describe('createVit', () => {
  test('DeiT-Tiny has its published number of weights, less the classifier', () => {
    expect(countVitParameters(vitTiny)).toBe(5_717_416 - 1000 * 193);
  });

  test('embeds every image of a batch on its own', async () => {
    const engine = createOnnxRuntimeEngine();
    const base = createVit(small, randomVitWeights(small, 1));
    const pixels = Float32Array.from({ length: 2 * 3 * 32 * 32 }, (_, index) => (index * 7919) % 251);
    const pair = await engine.compile(base.buildGraph(2), { device: 'cpu', threads: 1 });
    const single = await engine.compile(base.buildGraph(1), { device: 'cpu', threads: 1 });

    const both = await pair.run({ pixels: floatTensor([2, 3, 32, 32], pixels) });
    const second = await single.run({ pixels: floatTensor([1, 3, 32, 32], pixels.slice(3 * 32 * 32)) });

    const embeddings = both['embedding']!.data as Float32Array;
    expect(both['embedding']!.dims).toEqual([2, base.embeddingSize]);
    for (const [index, value] of (second['embedding']!.data as Float32Array).entries()) {
      expect(value).toBeCloseTo(embeddings[base.embeddingSize + index]!, 4);
    }
    expect(embeddings.slice(0, 192)).not.toEqual(embeddings.slice(192));
    await pair.release();
    await single.release();
  });

  test('its identity follows weights and architecture, not the name', () => {
    const weights = randomVitWeights(small, 1);
    const identity = createVit(small, weights).sha256;

    expect(createVit({ ...small, id: 'renamed' }, weights).sha256).toBe(identity);
    expect(createVit({ ...small, heads: 6 }, weights).sha256).not.toBe(identity);
    expect(createVit(small, randomVitWeights(small, 2)).sha256).not.toBe(identity);
  });

  test('offers q and v by default and every linear layer as `all`', () => {
    const { presets, layers } = createVit(small, randomVitWeights(small, 1));

    expect(presets['default']).toEqual([
      'blocks.0.attn.q',
      'blocks.0.attn.v',
      'blocks.1.attn.q',
      'blocks.1.attn.v',
    ]);
    expect(presets['all']).toEqual(layers.map((layer) => layer.module));
    expect(layers).toHaveLength(12);
  });

  test.each<[string, Partial<VitConfig>]>([
    ['an image that patches do not fill', { imageSize: 33 }],
    ['a width that heads do not share', { heads: 5 }],
  ])('refuses %s', (_title, change) => {
    expect(() => createVit({ ...small, ...change }, randomVitWeights(small, 1))).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    );
  });

  test('names a weight that is missing or misshapen', () => {
    const weights = randomVitWeights(small, 1);
    weights.set('blocks.1.attn.k.weight', floatTensor([1]));

    expect(() => createVit(small, weights)).toThrow(/blocks\.1\.attn\.k\.weight/);
  });
});
