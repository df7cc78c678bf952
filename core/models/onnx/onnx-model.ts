/** Any ONNX image-embedding network as a base model. */
import { originalAlignment } from '../../config/alignment.ts';
import type { Graph } from '../../graph/graph.ts';
import { AppError } from '../../shared/errors.ts';
import type { BaseModel } from '../base-model.ts';
import { NodeProblem } from './attributes.ts';
import { canonicalIdentity } from './canonical-identity.ts';
import { nameCanonically } from './canonical-names.ts';
import { inCanonicalOrder } from './canonical-order.ts';
import { classifierProblem } from './classifier-end.ts';
import { defaultHeadGain, fixedBatchOf, frameInput } from './framing.ts';
import type { HostTensor } from './host-tensor.ts';
import { identityOf } from './identity.ts';
import { type Naming, nameLayers, trainableWeightsOf } from './layers.ts';
import { loadNetwork, type Network } from './network.ts';
import { type OnnxOptions, onnxOptionsSchema } from './options.ts';
import { fusePatterns } from './patterns.ts';
import { invalidFile, readOnnxFile } from './read.ts';
import { type ConstantNode, type ConstantResults, runConstant } from './run-constants.ts';
import {
  ConstantsWanted,
  embeddingName,
  type Framing,
  type Session,
  type Specialised,
  specialise,
} from './specialise.ts';
import type { Reference } from './value.ts';

export interface OpenChoice {
  /** Somebody is about to import it: what can be opened, but makes no good base model, is refused. */
  readonly isNew?: boolean;
  /** 1 for what a version imported that still counted the file's names. */
  readonly identity?: IdentityRule;
}

/** How the network's identity and the names of its layers come about: 1 with the file's names, 2 without. */
export type IdentityRule = 1 | 2;

/** Batch sizes that a file with an open batch is written for first, and that every file is tried with. */
const referenceBatch = 2;
const trialBatch = 3;
const untriedBatch = 5;

/**
 * Reads an ONNX file (opset 7 to 24) and the data files beside it.
 *
 * Layers are all convolutions, Gemm and MatMul with constant weights; what they are called follows from how the network is
 * connected (canonical-names.ts), the names of the file are `peftModule`. Weights are called `<module>.weight` and `<module>.bias`. Statistics of
 * BatchNormalization stay constants: they are no weights that train.
 *
 * @throws AppError MODEL_FILE_INVALID naming file, tensor or node and what was expected; OPERATOR_UNSUPPORTED naming
 *   all operators and nodes that stop it; CONFIG_INVALID for a setting that contradicts the file
 */
export async function openOnnxModel(
  file: string,
  options: OnnxOptions,
  { isNew = false, identity = 2 }: OpenChoice = {},
): Promise<BaseModel> {
  const settings = parseOptions(options);
  const parsed = await readOnnxFile(file);
  const network = await loadNetwork(file, parsed, settings.output);
  const problem = isNew ? classifierProblem(network) : undefined;
  if (problem !== undefined) throw problem;
  const { framing, preprocessing } = frameInput(network, settings);
  const { naming, sha256, build, first } = await prepare(network, framing, identity);
  if (naming.layers.length === 0) {
    throw invalidFile(network.label, 'it has no layer with constant weights that LoRA could adapt', {
      action: 'Choose a network with convolutions or linear layers, exported with its weights.',
    });
  }
  const embeddingSize = first.types.get(embeddingName)!.dims[1]!;
  return {
    id: settings.id,
    sha256,
    inputSize: framing.inputSize,
    alignment: originalAlignment,
    embeddingSize,
    licence: settings.licence,
    weights: trainableWeightsOf(first, new Set(naming.names.values())),
    layers: naming.layers,
    presets: naming.presets,
    normalisation: { mean: framing.mean, deviation: framing.deviation },
    preprocessing,
    headGain: settings.headGain ?? defaultHeadGain(first, embeddingSize),
    buildGraph: build,
  };
}

function parseOptions(options: unknown): OnnxOptions {
  const parsed = onnxOptionsSchema.safeParse(options);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new AppError(
    'CONFIG_INVALID',
    `The setting "${issue?.path.join('.')}" of the model: ${issue?.message}.`,
    { cause: parsed.error },
  );
}

interface Prepared {
  readonly naming: Naming;
  readonly sha256: string;
  readonly build: (batch: number) => Graph;
  /** For one image, nodes in the order in which weights are listed. */
  readonly first: Graph;
}

/** Writes the network for a few batch sizes: what fails does so now, not in a training run. */
async function prepare(network: Network, framing: Framing, rule: IdentityRule): Promise<Prepared> {
  const kept = { folded: new Map<string, readonly HostTensor[]>(), computed: new Map() as ConstantResults };
  const fixed = fixedBatchOf(network.input);
  const batch = fixed ?? referenceBatch;
  if (batch > 4096) throw invalidFile(network.label, `it fixes a batch of ${batch} images`);
  const write = (names: ReadonlyMap<string, string>, size: number, reference?: Reference): Specialised => {
    const wanted = new Map<string, ConstantNode>();
    const written = onceComputed(network.label, wanted, () =>
      specialise(network, framing, { ...kept, wanted, names }, size, reference),
    );
    return { ...written, graph: fusePatterns(written.graph) };
  };
  const none: ReadonlyMap<string, string> = new Map();
  await computeConstants(network, framing, kept, batch);
  const model = write(none, batch);
  const reference: Reference = { batch, fixed: fixed !== undefined, dims: model.dims };
  for (const size of [1, trialBatch]) await computeConstants(network, framing, kept, size, reference);
  const unnamed = rule === 1 ? model : write(none, 1, reference);
  const naming = rule === 1 ? nameLayers(model) : nameCanonically(unnamed);
  const build = (size: number): Graph => write(naming.names, size, reference).graph;
  const first = build(1);
  const trial = build(trialBatch);
  const sizes = [first, trial].map((graph) => graph.types.get(embeddingName)!.dims[1]);
  if (sizes[0] !== sizes[1]) throw invalidFile(network.label, 'its embedding depends on the batch size');
  // One more size, whose constants were not computed: what ONNX Runtime computes must not depend on the batch.
  build(untriedBatch);
  if (rule === 1) return { naming, sha256: identityOf(network, framing), build, first };
  const weights = new Set(unnamed.weights.keys());
  const sha256 = canonicalIdentity(inCanonicalOrder(unnamed.graph), weights);
  return { naming, sha256, build, first: inCanonicalOrder(first) };
}

type Kept = Pick<Session, 'folded' | 'computed'>;

/** Has ONNX Runtime compute what the writing for a batch size lacks, until nothing is lacking. */
async function computeConstants(
  network: Network,
  framing: Framing,
  kept: Kept,
  batch: number,
  reference?: Reference,
): Promise<void> {
  for (;;) {
    const wanted = new Map<string, ConstantNode>();
    try {
      specialise(network, framing, { ...kept, wanted, names: new Map() }, batch, reference);
      return;
    } catch (error) {
      if (!(error instanceof ConstantsWanted)) throw error;
    }
    for (const [key, constant] of wanted) {
      const result = await runConstant(constant).catch((error: unknown) => {
        if (error instanceof NodeProblem) return error;
        throw error;
      });
      kept.computed.set(key, result);
    }
  }
}

function onceComputed<T>(label: string, wanted: ReadonlyMap<string, ConstantNode>, write: () => T): T {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof ConstantsWanted)) throw error;
    const [first] = wanted.values();
    throw new AppError(
      'OPERATOR_UNSUPPORTED',
      `${label} computes "${first?.node.outputs[0] ?? ''}" (${first?.node.op ?? ''}) from the number of images, which is not supported.`,
      { action: 'Export the network for one image, without an open batch.' },
    );
  }
}
