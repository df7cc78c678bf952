/** Whole small networks, LoRA included, against finite differences. */
import { describe, expect, test } from 'vitest';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import {
  injectLora,
  type LoraTarget,
  loraAName,
  loraBName,
  promoteToInputs,
} from '../../core/lora/inject.ts';
import { createVit } from '../../core/models/vit.ts';
import type { VitConfig } from '../../core/models/vit-config.ts';
import type { FloatTensor } from '../../core/shared/tensor.ts';
import { randomVitWeights } from '../fixtures/base-models.ts';
import { compareGradients, type Feeds, randomTensor, uniformTensor } from './finite-differences.ts';

const tolerance = 5e-3;

/** Softened with tanh instead of relu where differences would step over kinks; rules for relu have their own cases. */
function smallResnet(): { graph: Graph; layers: LoraTarget[] } {
  const builder = new GraphBuilder();
  const layers: LoraTarget[] = [];
  const conv = (x: string, module: string, dims: number[], stride: number, pad: number) => {
    const weight = builder.constant(randomTensor(dims, module, 0.4), `${module}.weight`);
    layers.push({ module, kind: 'conv', weight, weightDims: dims });
    const bias = builder.constant(randomTensor([dims[0]!], `${module} bias`, 0.1), `${module}.bias`);
    return builder.conv(x, weight, { bias, strides: [stride, stride], pads: [pad, pad, pad, pad] });
  };
  const pixels = builder.input('pixels', 'float32', [2, 3, 11, 11]);
  let x = builder.averagePool(builder.tanh(conv(pixels, 'stem', [4, 3, 3, 3], 1, 1)), [3, 3], {
    strides: [2, 2],
  });
  x = builder.tanh(
    builder.add(conv(builder.tanh(conv(x, 'a.conv1', [4, 4, 3, 3], 1, 1)), 'a.conv2', [4, 4, 3, 3], 1, 1), x),
  );
  const inner = conv(builder.tanh(conv(x, 'b.conv1', [6, 4, 3, 3], 2, 0)), 'b.conv2', [6, 6, 3, 3], 1, 1);
  const shortcut = builder.pad(builder.averagePool(x, [2, 2], { strides: [2, 2] }), [0, 0, 0, 0, 0, 2, 0, 0]);
  x = builder.tanh(builder.add(inner, shortcut));
  const features = builder.flatten(builder.globalAveragePool(x));
  const weight = builder.constant(randomTensor([5, 6], 'fc'), 'fc.weight');
  layers.push({ module: 'fc', kind: 'linear', weight, weightDims: [5, 6] });
  builder.output(builder.gemm(features, weight, undefined, { transB: true }), 'embedding');
  return { graph: builder.build(), layers };
}

/** Feeds for the inputs of a graph and a computation that goes on with it. */
async function compareNetwork(graph: Graph, wrt: readonly string[], pixels: FloatTensor) {
  const feeds: Feeds = { pixels };
  for (const name of graph.inputs) {
    if (name === 'pixels') continue;
    const initial = graph.types.get(name)!.dims;
    feeds[name] = randomTensor(initial, name, 0.3);
  }
  return compareGradients({
    feeds,
    wrt,
    build: (builder) => {
      builder.reserve(graph.types.keys());
      for (const [name, tensor] of graph.initializers) builder.constant(tensor, name);
      for (const node of graph.nodes) builder.copyNode(node, graph.types);
      return graph.outputs[0]!;
    },
  });
}

const factorNames = (modules: readonly string[]) =>
  modules.flatMap((module) => [loraAName(module), loraBName(module)]);

describe('a small residual network', () => {
  const pixels = randomTensor([2, 3, 11, 11], 'pixels');

  test('LoRA factors of all layers', async () => {
    const { graph, layers } = smallResnet();
    const adapted = injectLora(
      graph,
      layers.map((layer) => ({ layer, r: 2, scale: 0.7 })),
    );
    const names = factorNames(layers.map((layer) => layer.module));

    const { error, analytic } = await compareNetwork(adapted, names, pixels);

    expect(error).toBeLessThan(tolerance);
    expect([...analytic.keys()]).toHaveLength(12);
  });

  test('all weights', async () => {
    const { graph } = smallResnet();
    const names = [...graph.initializers.keys()].filter((name) => /\.(weight|bias)$/.test(name));

    const { error } = await compareNetwork(promoteToInputs(graph, names), names, pixels);

    expect(error).toBeLessThan(tolerance);
  });
});

describe('a vision transformer of two blocks', () => {
  const config: VitConfig = {
    id: 'vit-test',
    licence: 'none',
    imageSize: 8,
    patchSize: 4,
    hiddenSize: 8,
    layers: 2,
    heads: 2,
    mlpSize: 12,
    epsilon: 1e-3,
    mean: [0.5, 0.4, 0.3],
    deviation: [0.2, 0.3, 0.4],
  };
  const pixels = uniformTensor([2, 3, 8, 8], 'vit pixels', 0, 255);
  const weights = new Map(
    [...randomVitWeights(config, 7)].map(([name, { dims }]) => {
      const isNorm = /norm\d?\.weight$/.test(name);
      return [name, randomTensor(dims, name, isNorm ? 0.2 : 0.4, isNorm ? 1 : 0)] as const;
    }),
  );
  const base = createVit(config, weights);

  test('LoRA factors on q and v', async () => {
    const layers = base.layers.filter((layer) => base.presets['default']!.includes(layer.module));
    const adapted = injectLora(
      base.buildGraph(2),
      layers.map((layer) => ({ layer, r: 2, scale: 0.5 })),
    );

    const { error, analytic } = await compareNetwork(adapted, factorNames(base.presets['default']!), pixels);

    expect(error).toBeLessThan(tolerance);
    expect([...analytic.keys()]).toContain('blocks.1.attn.v.lora_B');
    expect([...analytic.keys()]).toHaveLength(8);
  });

  test('the class token, the positions, a norm, an attention and an MLP weight', async () => {
    const names = [
      'cls_token',
      'pos_embed',
      'blocks.0.norm1.weight',
      'blocks.0.attn.k.weight',
      'blocks.1.mlp.fc1.weight',
    ];

    const { error } = await compareNetwork(promoteToInputs(base.buildGraph(2), names), names, pixels);

    expect(error).toBeLessThan(tolerance);
  });
});
