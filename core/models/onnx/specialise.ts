/** Writes a network as our graph for one batch size. */
import type { Graph } from '../../graph/graph.ts';
import { GraphBuilder } from '../../graph/graph-builder.ts';
import { AppError } from '../../shared/errors.ts';
import { elementCount, floatTensor } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { OpenQuestion } from '../open-question.ts';
import { NodeProblem } from './attributes.ts';
import { branchOf } from './branches.ts';
import { canFold, foldNode, isArithmetic, shapeOf } from './fold-constants.ts';
import { fromNumbers, type HostTensor, isFloat, toGraphTensor } from './host-tensor.ts';
import { type Network, nodeLabel } from './network.ts';
import { hasRule, isReadable, normalisationRule } from './normalise.ts';
import type { FileNode } from './onnx-file.ts';
import { invalidFile } from './read.ts';
import { type ConstantNode, type ConstantResults, constantKey, isComputable } from './run-constants.ts';
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
  /** What ONNX Runtime has computed from constants, and what it is to compute before the next writing. */
  readonly computed: ConstantResults;
  readonly wanted: Map<string, ConstantNode>;
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
 * @throws AppError OPERATOR_UNSUPPORTED naming every operator that stops it, MODEL_FILE_INVALID; ConstantsWanted
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

  const scope: Scope = {
    builder,
    network,
    session,
    batch,
    reference,
    values,
    origins,
    unsupported,
    materialise,
  };
  for (const node of network.nodes) writeInto(scope, node);
  if (session.wanted.size > 0) throw new ConstantsWanted();
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

interface Scope {
  readonly builder: GraphBuilder;
  readonly network: Network;
  readonly session: Session;
  readonly batch: number;
  readonly reference: Reference | undefined;
  readonly values: Map<string, Value>;
  readonly origins: Map<string, FileNode>;
  readonly unsupported: Unsupported[];
  readonly materialise: (value: Value) => string;
}

/** Writes a node, or notes why it cannot be written. @throws AppError MODEL_FILE_INVALID */
function writeInto(scope: Scope, node: FileNode): void {
  const { builder, network, session, values, unsupported } = scope;
  const inputs = node.inputs.map((name) => (name === '' ? undefined : values.get(name)));
  if (node.inputs.some((name) => name !== '' && !values.has(name))) {
    // What waits for constants may become one itself.
    if (!isReadable(node) && session.wanted.size === 0) unsupported.push({ node, reason: '' });
    return;
  }
  const nodesBefore = builder.nodes.length;
  try {
    if (node.op === 'If' && node.domain === '') {
      writeBranch(scope, node, inputs[0]);
      return;
    }
    const { batch, reference } = scope;
    const context = new NodeContext(
      { builder, node, opset: network.opset, batch, reference, inputs },
      scope.materialise,
    );
    const results = writeNode(context, session);
    for (const [index, name] of node.outputs.entries()) {
      const value = results[index];
      if (name === '' || value === undefined) continue;
      checkSize(context.dimsOf(value));
      values.set(name, value);
    }
  } catch (error) {
    if (error instanceof ConstantsWanted) return;
    const reason = unsupportedReason(error);
    const isRebatched = scope.reference?.fixed === true && scope.reference.batch !== scope.batch;
    if (reason === undefined) throw describeFailure(error, network.label, node, isRebatched);
    unsupported.push({ node, reason });
  }
  for (const written of builder.nodes.slice(nodesBefore)) scope.origins.set(written.name, node);
}

/** The branch that a known condition takes, in place of its `If`. */
function writeBranch(scope: Scope, node: FileNode, condition: Value | undefined): void {
  if (condition?.kind !== 'known') {
    throw new NodeProblem('unsupported', 'takes its condition from the image');
  }
  const branch = branchOf(node, Number(condition.tensor.data[0] ?? 0) !== 0);
  if (branch === undefined) throw new NodeProblem('invalid', 'lacks a branch');
  for (const inner of branch.nodes) writeInto(scope, inner);
  for (const [index, name] of node.outputs.entries()) {
    const value = scope.values.get(branch.outputs[index]?.name ?? '');
    if (name !== '' && value !== undefined) scope.values.set(name, value);
  }
}

/** Some constants have to be computed by ONNX Runtime first: those of `Session.wanted`. */
export class ConstantsWanted extends Error {
  override readonly name = 'ConstantsWanted';
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

/** Weights are computed by ONNX Runtime; what shapes are made of is small. */
const mostFoldedHere = 4096;
/** What gives a weight the shape of a batch, and leaves its values as they are. */
const spreading = new Set([
  'Expand',
  'Tile',
  'Concat',
  'Gather',
  'Reshape',
  'Slice',
  'Squeeze',
  'Transpose',
  'Unsqueeze',
]);

function writeNode(context: NodeContext, session: Session): Value[] {
  const { node, inputs, opset } = context;
  if (node.domain === '' && (node.op === 'Shape' || node.op === 'Size')) return [measured(context)];
  const known = inputs.filter((value): value is Known => value?.kind === 'known');
  const present = inputs.filter((value) => value !== undefined);
  if (known.length < present.length) return normalisationRule(node)(context);
  const isStatic = known.every((value) => value.key !== undefined);
  // A class token spread over the batch stays a weight, which a constant of every batch size would not; so do layers of such.
  const holdsWeight = known.some(
    ({ key, tensor }) => key !== undefined && isFloat(tensor) && tensor.data.length > 1,
  );
  const isKept = !canFold(node) || spreading.has(node.op);
  if (!isStatic && holdsWeight && isKept && hasRule(node)) return normalisationRule(node)(context);
  const isLarge = known.some(({ tensor }) => tensor.data.length > mostFoldedHere);
  if (!canFold(node) || (isStatic && isLarge && isArithmetic(node))) {
    return isComputable(node) ? computedConstants(context, session) : normalisationRule(node)(context);
  }
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

/** What ONNX Runtime has made of a node's constants. @throws ConstantsWanted when it has not yet */
function computedConstants({ node, inputs, opset }: NodeContext, session: Session): Known[] {
  const known = inputs as readonly (Known | undefined)[];
  const constant = { node, opset, inputs: known.map((value) => value?.tensor) };
  const isStatic = known.every((value) => value === undefined || value.key !== undefined);
  const key = isStatic ? (node.outputs[0] ?? '') : constantKey(constant);
  const results = session.computed.get(key);
  if (results instanceof NodeProblem) throw results;
  if (results === undefined) {
    session.wanted.set(key, constant);
    throw new ConstantsWanted();
  }
  const stem = known.find((value) => value !== undefined)?.stem ?? '';
  const named = node.outputs.filter((name) => name !== '');
  const byName = new Map(named.map((name, index) => [name, results[index]!]));
  return node.outputs.map((name) => ({
    kind: 'known',
    tensor: byName.get(name) ?? fromNumbers('float32', [0], []),
    key: isStatic ? name : undefined,
    stem: stem || name,
  }));
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
    const problem = invalidFile(label, `its output "${output}" has shape ${shape} instead of [batch, d]`, {
      action: poolingAdvice(dims.length),
    });
    const choices = poolingsFor(dims.length);
    if (choices.length === 0 || pooling !== undefined) throw problem;
    throw new OpenQuestion({ about: 'pooling', choices }, problem);
  }
  if (!builder.nodes.some((node) => node.outputs.includes(rows))) {
    throw invalidFile(label, 'its output is its input', {
      action: 'Name another value with --output.',
    });
  }
  builder.output(rows, embeddingName);
}

const poolingsFor = (rank: number): ('first' | 'mean')[] =>
  rank === 3 ? ['first', 'mean'] : rank === 4 ? ['mean'] : [];

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

function describeFailure(error: unknown, label: string, node: FileNode, isRebatched: boolean): unknown {
  // At the file's own batch size it fits: what stops it is a number of images that the file has fixed.
  const advice = isRebatched
    ? {
        action:
          'Export the network with an open number of images: torch.onnx.export(…, dynamic_axes={"input": {0: "batch"}}).',
      }
    : {};
  const invalid = (what: string, cause?: unknown) =>
    invalidFile(label, `the node ${nodeLabel(node)} ${what}`, { ...advice, cause });
  if (error instanceof NodeProblem) return invalid(error.message);
  if (error instanceof AppError && error.code !== 'MODEL_FILE_INVALID')
    return invalid(`does not fit: ${error.message.replace(/\.$/, '')}`, error);
  // A rule of the graph layer may stumble over what no network would hold.
  if (error instanceof TypeError || error instanceof RangeError) return invalid('cannot be read', error);
  return error;
}

/** What to do about the first kind of operator that says where the file comes from. */
function adviceFor(nodes: readonly FileNode[]): string {
  if (nodes.some(({ domain }) => domain === 'com.microsoft.nchwc'))
    return 'The file was optimised for one kind of processor. Save it with ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL, or take the file from before.';
  if (nodes.some(({ op }) => /^QLinear|Integer(?:ToFloat)?$|^DynamicQuantize|NBits$/.test(op)))
    return 'The file computes with whole numbers. Take the one from before it was quantised, or quantise it in the QDQ format.';
  if (nodes.some(({ op }) => op === 'Loop' || op === 'Scan' || op === 'If'))
    return 'Export the network again for one image size and one image, so that nothing in it depends on the image’s values.';
  return 'If these nodes come behind the embedding, name it with --output. Otherwise export the network without them, or choose another one.';
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
    { action: adviceFor(problems.map(({ node }) => node)) },
  );
}
