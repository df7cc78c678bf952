/** The forward graph of a vision transformer; vit.ts says which weights it reads. */
import type { Graph } from '../graph/graph.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { patchCount, prefixTokens, type VitConfig } from './vit-config.ts';

/** The names that a block's parts share while the graph is built. */
interface Scope {
  readonly config: VitConfig;
  readonly builder: GraphBuilder;
  readonly batch: number;
  readonly tokens: number;
  weight(name: string): string;
}

/**
 * `pixels` [batch, 3, size, size] in, `embedding` [batch, hiddenSize] out. Tokens stay a matrix
 * [batch · tokens, width] all the way: every linear layer is then one plain Gemm.
 */
export function buildVitGraph(
  config: VitConfig,
  weights: ReadonlyMap<string, FloatTensor>,
  batch: number,
): Graph {
  const builder = new GraphBuilder();
  const tokens = prefixTokens(config).count + patchCount(config);
  const weight = (name: string) => (builder.has(name) ? name : builder.constant(weights.get(name)!, name));
  const scope: Scope = { config, builder, batch, tokens, weight };
  let x = embedPatches(scope);
  for (let index = 0; index < config.layers; index++) {
    // The last block has to give the class token alone when that is all that is read of it.
    const isLast = index === config.layers - 1 && config.pooling !== 'mean';
    x = transformerBlock(scope, `blocks.${index}`, x, isLast ? selectClassToken(scope, x) : x);
  }
  builder.output(config.pooling === 'mean' ? poolPatches(scope, x) : norm(scope, 'norm', x), 'embedding');
  return builder.build();
}

/**
 * @param x all tokens, [batch · tokens, width]
 * @param queried the tokens to compute, in the same layout: x itself or its class tokens [batch, width]
 * @returns the block's result for `queried`
 */
function transformerBlock(scope: Scope, block: string, x: string, queried: string): string {
  const keys = norm(scope, `${block}.norm1`, x);
  const queries = queried === x ? keys : norm(scope, `${block}.norm1`, queried);
  const attended = branch(scope, queried, `${block}.ls1`, attention(scope, `${block}.attn`, queries, keys));
  const inner = feedForward(scope, `${block}.mlp`, norm(scope, `${block}.norm2`, attended));
  return branch(scope, attended, `${block}.ls2`, inner);
}

/** [batch · tokens, width] to the first token of each image, [batch, width]. */
function selectClassToken({ config, builder, batch, tokens }: Scope, x: string): string {
  const separate = builder.reshape(x, [batch, tokens, config.hiddenSize]);
  return builder.reshape(builder.slice(separate, [0], [1], [1]), [batch, config.hiddenSize]);
}

/** Normalised pixels, a convolution per patch, the tokens before them, and the position embeddings. */
function embedPatches(scope: Scope): string {
  const { config, builder, batch, tokens, weight } = scope;
  const { imageSize, patchSize, hiddenSize } = config;
  const patches = patchCount(config);
  const pixels = builder.input('pixels', 'float32', [batch, 3, imageSize, imageSize]);
  const perChannel = (values: readonly number[]) =>
    builder.constant(
      floatTensor(
        [1, 3, 1, 1],
        Float32Array.from(values, (value) => 255 * value),
      ),
    );
  const normalised = builder.div(builder.sub(pixels, perChannel(config.mean)), perChannel(config.deviation));
  const convolved = builder.conv(normalised, weight('patch_embed.proj.weight'), {
    ...(config.patchBias === false ? {} : { bias: weight('patch_embed.proj.bias') }),
    strides: [patchSize, patchSize],
  });
  const rows = builder.transpose(builder.reshape(convolved, [batch, hiddenSize, patches]), [0, 2, 1]);
  const placed = builder.reshape(placeTokens(scope, rows), [batch * tokens, hiddenSize]);
  return config.normBefore === true ? norm(scope, 'norm_pre', placed) : placed;
}

/** Puts class, distillation and register tokens before the patches; those among the positioned get their place. */
function placeTokens({ config, builder, batch, weight }: Scope, rows: string): string {
  const { names, count, positioned } = prefixTokens(config);
  const positions = weight('pos_embed');
  if (count === 0) return builder.add(rows, positions);
  const repeated = names.map((name) => {
    const [, tokens = 1, width = 0] = builder.dimsOf(weight(name));
    return builder.expand(name, [batch, tokens, width]);
  });
  // The usual case, in as few nodes as can be.
  if (positioned === count) return builder.add(builder.concat([...repeated, rows], 1), positions);
  const end = positioned + patchCount(config);
  const placedRows = builder.add(rows, builder.slice(positions, [positioned], [end], [1]));
  if (positioned === 0) return builder.concat([...repeated, placedRows], 1);
  const prefix = builder.concat(repeated, 1);
  const placed = builder.add(
    builder.slice(prefix, [0], [positioned], [1]),
    builder.slice(positions, [0], [positioned], [1]),
  );
  return builder.concat([placed, builder.slice(prefix, [positioned], [count], [1]), placedRows], 1);
}

function norm({ config, builder, weight }: Scope, name: string, x: string): string {
  const options = { epsilon: config.epsilon };
  return builder.layerNormalization(x, weight(`${name}.weight`), weight(`${name}.bias`), options);
}

function linear({ builder, weight }: Scope, name: string, x: string, hasBias = true): string {
  const bias = hasBias ? weight(`${name}.bias`) : undefined;
  return builder.gemm(x, weight(`${name}.weight`), bias, { transB: true });
}

/** x plus what a block's half computed from it, by the layer scale where there is one (Touvron et al. 2021, CaiT). */
function branch({ config, builder, weight }: Scope, x: string, scale: string, change: string): string {
  const scaled = config.layerScale === true ? builder.mul(change, weight(`${scale}.gamma`)) : change;
  return builder.add(x, scaled);
}

/** Multi-head attention of some tokens, [batch · any, width], to all tokens, [batch · tokens, width]. */
function attention(scope: Scope, name: string, queries: string, keys: string): string {
  const { config, builder, batch } = scope;
  const { hiddenSize, heads } = config;
  const headSize = hiddenSize / heads;
  const project = (part: string, x: string) => linear(scope, `${name}.${part}`, x, config.qkvBias !== false);
  const byHead = (x: string, permutation: readonly number[]) => {
    const rows = builder.dimsOf(x)[0]! / batch;
    return builder.transpose(builder.reshape(x, [batch, rows, heads, headSize]), permutation);
  };
  const scaled = builder.mul(project('q', queries), builder.scalar(1 / Math.sqrt(headSize)));
  const weights = builder.softmax(
    builder.matMul(byHead(scaled, [0, 2, 1, 3]), byHead(project('k', keys), [0, 2, 3, 1])),
  );
  const values = byHead(project('v', keys), [0, 2, 1, 3]);
  const mixed = builder.transpose(builder.matMul(weights, values), [0, 2, 1, 3]);
  return linear(scope, `${name}.proj`, builder.reshape(mixed, builder.dimsOf(queries)));
}

function feedForward(scope: Scope, name: string, x: string): string {
  const { config, builder } = scope;
  const inner = linear(scope, `${name}.fc1`, x);
  if (config.gatedMlp !== true) return linear(scope, `${name}.fc2`, activate(scope, inner));
  // SwiGLU: the first half of the rows is the gate, the second what it lets through.
  const [gate = '', passed = ''] = builder.split(inner, [config.mlpSize, config.mlpSize], 1);
  const silu = builder.mul(gate, builder.sigmoid(gate));
  return linear(scope, `${name}.fc2`, builder.mul(silu, passed));
}

function activate({ config, builder }: Scope, x: string): string {
  if (config.activation === 'gelu-tanh') {
    const cubed = builder.mul(builder.mul(x, x), builder.mul(x, builder.scalar(0.044715)));
    const inner = builder.mul(builder.add(x, cubed), builder.scalar(Math.sqrt(2 / Math.PI)));
    return builder.mul(
      builder.mul(x, builder.scalar(0.5)),
      builder.add(builder.tanh(inner), builder.scalar(1)),
    );
  }
  if (config.activation === 'quick-gelu') {
    return builder.mul(x, builder.sigmoid(builder.mul(x, builder.scalar(1.702))));
  }
  return builder.gelu(x);
}

/** [batch · tokens, width] to the mean of the patch tokens, [batch, width]. */
function poolPatches(scope: Scope, x: string): string {
  const { config, builder, batch, tokens } = scope;
  const { count } = prefixTokens(config);
  const meanOfPatches = (value: string) => {
    const separate = builder.reshape(value, [batch, tokens, config.hiddenSize]);
    const patches = count === 0 ? separate : builder.slice(separate, [count], [tokens], [1]);
    return builder.reduceMean(patches, [1], false);
  };
  if (config.normAfterPooling === true) return norm(scope, 'norm', meanOfPatches(x));
  return meanOfPatches(norm(scope, 'norm', x));
}
