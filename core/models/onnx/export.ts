/** A trained network as one ONNX file that any runtime can use: LoRA merged into the weights, the head behind it. */
import path from 'node:path';
import onnxProto, { type onnx } from 'onnx-proto';
import type { ExportedFigures } from '../../evaluation/floors.ts';
import { encodeOnnxModel } from '../../graph/encode.ts';
import { castTypeCodes, type Graph } from '../../graph/graph.ts';
import { GraphBuilder } from '../../graph/graph-builder.ts';
import { mergeState } from '../../lora/merge.ts';
import type { ModelState } from '../../lora/model-state.ts';
import { AppError, toAppError } from '../../shared/errors.ts';
import { type FloatTensor, sameDims, type Tensor } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { writeFileAtomically } from '../../store/atomic-file.ts';
import type { BaseModel } from '../base-model.ts';
import { openBatch } from './open-batch.ts';
import { embeddingName } from './specialise.ts';

export interface ExportOptions {
  /** Scale of an ArcFace head: logits are then scale · cos θ and need no bias. Absent for a softmax head. */
  readonly arcScale?: number;
  /** Into the metadata, as JSON under `anneal.evaluation`. */
  readonly evaluation?: ExportedFigures;
}

export interface ExportResult {
  readonly sizeBytes: number;
  /** Whether the file takes any number of images at once; otherwise one. */
  readonly isBatchOpen: boolean;
}

/** Protobuf's limit of a message. */
const maxFileBytes = 2 ** 31 - 1;
const logitsName = 'logits';
const batchSymbol = 'batch';

/**
 * Writes `file` whole or not at all. Input `pixels` float32 [batch, 3, size, size], RGB 0…255; outputs `embedding`
 * [batch, d] and `logits` [batch, classes]. The metadata names the base (`anneal.base_id`, `anneal.base_sha256`,
 * `anneal.base_licence`) and the classes in the order of the logits (`anneal.classes`, JSON).
 * @throws AppError SHAPE_MISMATCH when the state is of another base or its head does not fit, CONFIG_INVALID when the
 *   file would be larger than 2 GiB or cannot be written
 */
export async function exportOnnxModel(
  base: BaseModel,
  state: ModelState,
  file: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const weights = mergeState(base, state);
  const head = headOf(base, state, options);
  const { graph, isOpen } = openBatch((batch) => withHead(base, head, batch, options));
  const initializers = new Map<string, Tensor>();
  for (const [name, tensor] of graph.initializers) initializers.set(name, weights.get(name) ?? tensor);
  const bytes = encode({ ...graph, initializers }, isOpen, {
    'anneal.base_id': base.id,
    'anneal.base_sha256': base.sha256,
    'anneal.base_licence': base.licence,
    'anneal.classes': JSON.stringify(state.classes),
    ...(options.evaluation !== undefined && { 'anneal.evaluation': JSON.stringify(options.evaluation) }),
  });
  await write(file, bytes);
  return { sizeBytes: bytes.length, isBatchOpen: isOpen };
}

interface Head {
  readonly weight: FloatTensor;
  readonly bias: FloatTensor | undefined;
}

function headOf({ embeddingSize }: BaseModel, state: ModelState, { arcScale }: ExportOptions): Head {
  const weight = state.head.get('weight');
  const bias = arcScale === undefined ? state.head.get('bias') : undefined;
  const classes = state.classes.length;
  const fits = weight !== undefined && sameDims(weight.dims, [classes, embeddingSize]);
  const biasFits = arcScale !== undefined || (bias !== undefined && sameDims(bias.dims, [classes]));
  if (!fits || !biasFits) {
    throw new AppError(
      'SHAPE_MISMATCH',
      `The head of the adapter does not match ${plural(classes, 'class')} and an embedding of ${plural(embeddingSize, 'number')}.`,
    );
  }
  return { weight, bias };
}

/** The same logits as in training: W·(gain·x) + b, or scale · cos θ. */
function withHead(base: BaseModel, head: Head, batch: number, { arcScale }: ExportOptions): Graph {
  const builder = GraphBuilder.from(base.buildGraph(batch));
  const taken = 'head.weight';
  const weight = builder.constant(head.weight, builder.has(taken) ? undefined : taken);
  if (arcScale !== undefined) {
    const cosines = builder.gemm(builder.unitRows(embeddingName), builder.unitRows(weight), undefined, {
      transB: true,
    });
    builder.output(builder.mul(cosines, builder.scalar(arcScale)), logitsName);
    return builder.build();
  }
  const features = builder.mul(embeddingName, builder.scalar(base.headGain));
  const bias = builder.constant(head.bias!);
  builder.output(builder.gemm(features, weight, bias, { transB: true }), logitsName);
  return builder.build();
}

function encode(graph: Graph, isOpen: boolean, metadata: Readonly<Record<string, string>>): Uint8Array {
  let total = 0;
  for (const { data } of graph.initializers.values()) total += data.byteLength;
  // Names, nodes and sizes take far less than this.
  if (total > maxFileBytes - 2 ** 24) {
    throw new AppError(
      'CONFIG_INVALID',
      `The merged model has ${total} bytes; one ONNX file holds at most 2 GiB.`,
    );
  }
  const { ModelProto } = onnxProto.onnx;
  // Without the weights, which are put in once at the end.
  const model = ModelProto.decode(encodeOnnxModel({ ...graph, initializers: new Map() }));
  const content = model.graph!;
  // Inner shapes are those of one batch size.
  if (isOpen) {
    content.valueInfo = [];
    for (const value of [...content.input!, ...content.output!]) {
      value.type!.tensorType!.shape!.dim![0] = { dimParam: batchSymbol };
    }
  }
  content.initializer = [...graph.initializers].map(([name, tensor]) => encodeTensor(name, tensor));
  model.metadataProps = Object.entries(metadata).map(([key, value]) => ({ key, value }));
  return ModelProto.encode(model).finish();
}

function encodeTensor(name: string, { dtype, dims, data }: Tensor): onnx.ITensorProto {
  const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return { name, dims: [...dims], dataType: castTypeCodes[dtype], rawData };
}

async function write(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFileAtomically(file, bytes);
  } catch (cause) {
    const known = toAppError(cause);
    if (known.code !== 'INTERNAL') throw known;
    throw new AppError('CONFIG_INVALID', `The file ${path.basename(file)} cannot be written.`, { cause });
  }
}
