/** Writes a network as our graph for one batch size. */
import type { Graph } from '../../graph/graph.ts';
import { GraphBuilder } from '../../graph/graph-builder.ts';
import { AppError } from '../../shared/errors.ts';
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { NodeProblem } from './attributes.ts';
import { canFold, foldNode, shapeOf } from './fold-constants.ts';
import { fromNumbers, type HostTensor, isFloat, toGraphTensor } from './host-tensor.ts';
import { type Network, nodeLabel } from './network.ts';
import { hasRule, isReadable, normalisationRule } from './normalise.ts';
import type { FileNode } from './onnx-file.ts';
import { invalidFile } from './read.ts';
import { computed, type Known, NodeContext, type Reference, type Value } from './value.ts';

/** How an image is fed and what comes out, settled from the file and the person's settings. */
export interface Framing {
  readonly inputSize: number;
  /** The network takes [batch, height, width, channels]. */
  readonly channelsLast: boolean;
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  readonly channelOrder: 'rgb' | 'bgr';
  readonly pooling: 'mean' | 'first' | undefined;
}

/** What is kept from one writing to the next. */
export interface Session {
  /** Results of nodes that depend on the file alone, by the first output's name. */
  readonly folded: Map<string, readonly HostTensor[]>;
  /** Names in the graph of known values, by their name in the file; others keep their own. */
  readonly names: ReadonlyMap<string, string>;
}

export interface Specialised {
  readonly graph: Graph;
  /** Shapes of the file's values. */
  readonly dims: ReadonlyMap<string, readonly number[]>;
  /** The file's node behind each node of the graph. */
  readonly origins: ReadonlyMap<string, FileNode>;
  /** Names in the file of the weights in the graph, by their name in it; with the initializer they stem from. */
  readonly weights: ReadonlyMap<string, { readonly key: string; readonly stem: string }>;
}

/** Values of one tensor of the graph; more would not fit any machine. */
const maxValues = 2 ** 33;
const shownProblems = 8;
export const pixelsName = 'pixels';
export const embeddingName = 'embedding';
const reservedNames = new Set([pixelsName, embeddingName]);

interface Unsupported {
  readonly node: FileNode;
  readonly reason: string;
}

/**
 * @param reference the same network at another batch size, see {@link Reference}
 * @throws AppError OPERATOR_UNSUPPORTED naming every operator that stops it, MODEL_FILE_INVALID
 */
export function specialise(
  network: Network,
  framing: Framing,
  session: Session,
  batch: number,
  reference?: Reference,
): Specialised {
  const builder = new GraphBuilder();
  builder.reserve([pixelsName, embeddingName, ...network.tensors.keys(), ...session.names.values()]);
  for (const node of network.nodes) builder.reserve(node.outputs);
  const weights = new Map<string, { key: string; stem: string }>();
  const values = new Map<string, Value>();
  const origins = new Map<string, FileNode>();
  const unsupported: Unsupported[] = [];
  const materialise = createMaterialiser(builder, session, weights);
  for (const [name, tensor] of network.tensors)
    values.set(name, { kind: 'known', tensor, key: name, stem: name });
  values.set(network.input.name, computed(framePixels(builder, framing, batch)));

  for (const node of network.nodes) {
    const inputs = node.inputs.map((name) => (name === '' ? undefined : values.get(name)));
    const isBlocked = node.inputs.some((name) => name !== '' && !values.has(name));
    if (isBlocked) {
      if (!isReadable(node)) unsupported.push({ node, reason: '' });
      continue;
    }
    const nodesBefore = builder.nodes.length;
    try {
      const context = new NodeContext(
        { builder, node, opset: network.opset, batch, reference, inputs },
        materialise,
      );
      const results = writeNode(context, session);
      for (const [index, name] of node.outputs.entries()) {
        const value = results[index];
        if (name === '' || value === undefined) continue;
        checkSize(context.dimsOf(value));
        values.set(name, value);
      }
    } catch (error) {
      const reason = unsupportedReason(error);
      if (reason === undefined) throw describeFailure(error, network.label, node);
      unsupported.push({ node, reason });
    }
    for (const written of builder.nodes.slice(nodesBefore)) origins.set(written.name, node);
  }
  if (unsupported.length > 0) throw unsupportedError(network.label, unsupported);
  const result = values.get(network.output);
  if (result === undefined)
    throw invalidFile(network.label, `its output "${network.output}" is optional and absent`, {
      action: 'Name another value with --output.',
    });
  if (result.kind === 'known') {
    throw invalidFile(network.label, `its output "${network.output}" does not depend on the image`, {
      action: 'Name another value with --output.',
    });
  }
  frameEmbedding(builder, network, framing, batch, result.name);
  const dims = new Map<string, readonly number[]>();
  for (const [name, value] of values) {
    dims.set(name, value.kind === 'known' ? value.tensor.dims : builder.dimsOf(value.name));
  }
  return { graph: builder.build(), dims, origins, weights };
}

function createMaterialiser(
  builder: GraphBuilder,
  session: Session,
  weights: Map<string, { key: string; stem: string }>,
): (value: Value) => string {
  const written = new WeakMap<Known, string>();
  return (value) => {
    if (value.kind === 'computed') return value.name;
    const { tensor, key, stem } = value;
    if (key !== undefined && isFloat(tensor) && tensor.data.length > 1) {
      const name = session.names.get(key) ?? (reservedNames.has(key) ? `${key}.weight` : key);
      if (!weights.has(name)) {
        builder.constant(floatTensor(tensor.dims, tensor.data), name);
        weights.set(name, { key, stem });
      }
      return name;
    }
    const known = written.get(value) ?? builder.constant(toGraphTensor(tensor));
    written.set(value, known);
    return known;
  };
}

function writeNode(context: NodeContext, session: Session): Value[] {
  const { node, inputs, opset } = context;
  if (node.domain === '' && (node.op === 'Shape' || node.op === 'Size')) return [measured(context)];
  const known = inputs.filter((value): value is Known => value?.kind === 'known');
  const present = inputs.filter((value) => value !== undefined);
  if (known.length < present.length || !canFold(node)) return normalisationRule(node)(context);
  const isStatic = known.every((value) => value.key !== undefined);
  // A class token spread over the batch stays a weight, which a constant of every batch size would not.
  const holdsWeight = known.some(
    ({ key, tensor }) => key !== undefined && isFloat(tensor) && tensor.data.length > 1,
  );
  if (!isStatic && holdsWeight && hasRule(node)) return normalisationRule(node)(context);
  const cacheKey = node.outputs[0] ?? '';
  const cached = isStatic ? session.folded.get(cacheKey) : undefined;
  const tensors =
    cached ??
    foldNode({
      node,
      opset,
      inputs: inputs.map((value) => (value?.kind === 'known' ? value.tensor : undefined)),
    });
  if (isStatic && cached === undefined) session.folded.set(cacheKey, tensors);
  // What was made of one weight alone is that weight in another form.
  const [first] = known;
  return tensors.map((tensor, index) => {
    const name = node.outputs[index] ?? '';
    // PyTorch stores equal tensors once and gives the others their own names by Identity.
    const stem = node.op === 'Identity' ? name : first?.stem || name;
    return { kind: 'known', tensor, key: isStatic ? name : undefined, stem };
  });
}

/** Shape and Size are known even of what is computed; those that hold the batch differ from batch to batch. */
function measured(context: NodeContext): Known {
  const dims = context.dims(0);
  const tensor =
    context.node.op === 'Shape'
      ? shapeOf(context.node, dims)
      : fromNumbers('int64', [], [elementCount(dims)]);
  return { kind: 'known', tensor, key: undefined, stem: '' };
}

function checkSize(dims: readonly number[]): void {
  const count = elementCount(dims);
  if (dims.some((size) => !Number.isSafeInteger(size) || size < 0) || count > maxValues) {
    throw new NodeProblem('invalid', `makes a value of the impossible shape [${dims.join(', ')}]`);
  }
}

/** The input and the nodes that turn pixels into what the network was trained with. */
function framePixels(builder: GraphBuilder, framing: Framing, batch: number): string {
  const { inputSize, mean, deviation } = framing;
  const pixels = builder.input(pixelsName, 'float32', [batch, 3, inputSize, inputSize]);
  const perChannel = (values: readonly number[]) =>
    builder.constant(
      floatTensor(
        [1, 3, 1, 1],
        Float32Array.from(values, (value) => 255 * value),
      ),
    );
  const isShifted = mean.some((value) => value !== 0);
  const isScaled = deviation.some((value) => Math.fround(255 * value) !== 1);
  const centred = isShifted ? builder.sub(pixels, perChannel(mean)) : pixels;
  const scaled = isScaled ? builder.div(centred, perChannel(deviation)) : centred;
  const reversed = builder.constant({ dtype: 'int64', dims: [3], data: BigInt64Array.of(2n, 1n, 0n) });
  const ordered = framing.channelOrder === 'bgr' ? builder.gather(scaled, reversed, 1) : scaled;
  return framing.channelsLast ? builder.transpose(ordered, [0, 2, 3, 1]) : ordered;
}

/** One row per image. @throws AppError MODEL_FILE_INVALID when the output is no embedding */
function frameEmbedding(
  builder: GraphBuilder,
  { label, output }: Network,
  { pooling }: Framing,
  batch: number,
  value: string,
): void {
  const { dims, dtype } = builder.typeOf(value);
  const shape = `[${dims.join(', ')}]`;
  if (dims[0] !== batch || dtype !== 'float32') {
    throw invalidFile(
      label,
      `its output "${output}" has shape ${shape} for ${plural(batch, 'image')} instead of one row each`,
      { action: 'Name a value with one row of numbers per image with --output.' },
    );
  }
  let rows = value;
  if (dims.length === 3 && dims[1] !== 1) {
    if (pooling === 'mean') rows = builder.reduceMean(value, [1], false);
    else if (pooling === 'first')
      rows = builder.reshape(builder.slice(value, [0], [1], [1]), [batch, dims[2]!]);
    else rows = '';
  } else if (dims.length === 4 && elementCount(dims.slice(2)) !== 1) {
    rows = pooling === 'mean' ? builder.flatten(builder.globalAveragePool(value)) : '';
  } else if (dims.length === 3 || dims.length === 4) rows = builder.flatten(value);
  else if (dims.length !== 2) rows = '';
  if (rows === '') {
    throw invalidFile(label, `its output "${output}" has shape ${shape} instead of [batch, d]`, {
      action: poolingAdvice(dims.length),
    });
  }
  if (!builder.nodes.some((node) => node.outputs.includes(rows))) {
    throw invalidFile(label, 'its output is its input', {
      action: 'Name another value with --output.',
    });
  }
  builder.output(rows, embeddingName);
}

function poolingAdvice(rank: number): string {
  if (rank === 3)
    return 'Give --pooling first (the class token) or --pooling mean, or name another value with --output.';
  if (rank === 4) return 'Give --pooling mean, or name another value with --output.';
  return 'Name a value with one row of numbers per image with --output.';
}

/** Undefined for what is wrong with the file rather than not supported. */
function unsupportedReason(error: unknown): string | undefined {
  if (error instanceof NodeProblem && error.kind === 'unsupported') return error.message;
  if (error instanceof AppError && error.code === 'OPERATOR_UNSUPPORTED')
    return error.message.replace(/\.$/, '');
  return undefined;
}

function describeFailure(error: unknown, label: string, node: FileNode): unknown {
  if (error instanceof NodeProblem) return invalidFile(label, `the node ${nodeLabel(node)} ${error.message}`);
  if (error instanceof AppError && error.code !== 'MODEL_FILE_INVALID') {
    return invalidFile(
      label,
      `the node ${nodeLabel(node)} does not fit: ${error.message.replace(/\.$/, '')}`,
      { cause: error },
    );
  }
  // A rule of the graph layer may stumble over what no network would hold.
  if (error instanceof TypeError || error instanceof RangeError) {
    return invalidFile(label, `the node ${nodeLabel(node)} cannot be read`, { cause: error });
  }
  return error;
}

function unsupportedError(label: string, problems: readonly Unsupported[]): AppError {
  const shown = problems
    .slice(0, shownProblems)
    .map(({ node, reason }) => `${nodeLabel(node)}${reason === '' ? '' : ` ${reason}`}`);
  const more = problems.length - shown.length;
  if (more > 0) shown.push(`${more} more`);
  return new AppError(
    'OPERATOR_UNSUPPORTED',
    `${label} holds operators that are not supported: ${shown.join('; ')}.`,
  );
}
