/** The parts that later vision transformers added, against finite differences: all weights of two blocks at once. */
import { expect, test } from 'vitest';
import { promoteToInputs } from '../../core/lora/inject.ts';
import { createVit, vitWeightShapes } from '../../core/models/vit.ts';
import type { VitConfig } from '../../core/models/vit-config.ts';
import { compareGradients, type Feeds, randomTensor, uniformTensor } from './finite-differences.ts';

const plain: VitConfig = {
  id: 'vit-test',
  licence: 'none',
  imageSize: 8,
  patchSize: 4,
  hiddenSize: 8,
  layers: 2,
  heads: 2,
  mlpSize: 6,
  epsilon: 1e-3,
  mean: [0.5, 0.4, 0.3],
  deviation: [0.2, 0.3, 0.4],
};

test.each<[string, Partial<VitConfig>]>([
  ['DINOv2 with registers and a gated part', { registers: 2, layerScale: true, gatedMlp: true }],
  ['registers with positions', { registers: 2, positionedTokens: 3 }],
  ['positions of patches alone', { registers: 1, positionedTokens: 0 }],
  [
    'a distillation token, quick GELU, no bias on q, k and v',
    { distillationToken: true, activation: 'quick-gelu', qkvBias: false },
  ],
  [
    'mean pooling before the norm, GELU by tanh',
    { pooling: 'mean', normAfterPooling: true, activation: 'gelu-tanh' },
  ],
  [
    "CLIP's: normalised before the blocks, no bias on the patches",
    { normBefore: true, patchBias: false, activation: 'quick-gelu' },
  ],
  ['mean pooling after the norm, no class token', { pooling: 'mean', classToken: false }],
])('%s', async (_what, change) => {
  const config = { ...plain, ...change };
  const weights = new Map(
    [...vitWeightShapes(config)].map(([name, dims]) => {
      const nearOne = /norm\d?\.weight$|gamma$/.test(name);
      return [name, randomTensor(dims, name, nearOne ? 0.2 : 0.4, nearOne ? 1 : 0)] as const;
    }),
  );
  // The patch embedding has hundreds of values and nothing of its own here.
  const trained = [...weights.keys()].filter(
    (name) => !name.startsWith('patch_embed') && !name.includes('blocks.0'),
  );
  const graph = promoteToInputs(createVit(config, weights).buildGraph(2), trained);
  const feeds: Feeds = { pixels: uniformTensor([2, 3, 8, 8], 'pixels', 0, 255) };
  for (const name of trained) feeds[name] = weights.get(name)!;

  const { error, analytic } = await compareGradients({
    feeds,
    wrt: trained,
    build: (builder) => {
      builder.reserve(graph.types.keys());
      for (const [name, tensor] of graph.initializers) builder.constant(tensor, name);
      for (const node of graph.nodes) builder.copyNode(node, graph.types);
      return graph.outputs[0]!;
    },
  });

  expect(error).toBeLessThan(5e-3);
  // Every one of them takes part in the embedding.
  expect([...analytic].filter(([, values]) => values.every((value) => value === 0))).toEqual([]);
});
