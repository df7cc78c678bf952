/** A frozen network that turns a face crop into an embedding; LoRA adapts it. */
import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import { type Alignment, originalAlignment } from '../config/alignment.ts';
import type { Normalisation, Preprocessing } from '../config/preprocessing.ts';
import type { Graph } from '../graph/graph.ts';
import { hashJson } from '../shared/hash.ts';
import type { FloatTensor } from '../shared/tensor.ts';

/** A layer that can carry LoRA factors. */
export interface AdaptableLayer {
  /** Name in PEFT's sense, for instance `conv32_1.conv1` or `blocks.3.attn.q`; the same wherever the base model is. */
  readonly module: string;
  readonly kind: 'conv' | 'linear';
  /** Name of its weight in `BaseModel.weights` and in the graph's initializers. */
  readonly weight: string;
  /** conv: [out, in, kh, kw]; linear: [out, in] as PEFT counts, whatever the graph's own layout. */
  readonly weightDims: readonly number[];
  /** Index of the block it belongs to, counted from the input; for `last-k`. */
  readonly block: number;
  /**
   * The module that Hugging Face PEFT would adapt, where it has another name (that of an ONNX file, which differs from file to
   * file) or is wider than this layer: timm's fused `blocks.3.attn.qkv`.
   */
  readonly peftModule?: string;
  /** With `peftModule`: this layer is its output rows from `start` on; it has `rows` of them in all. */
  readonly peftPart?: { readonly start: number; readonly rows: number };
  /** Its weights hold the scales of a batch normalisation that stood behind it, as far as the file tells; see folded-norm.ts. */
  readonly foldedNorm?: boolean;
}

export type { Normalisation, Preprocessing };

export interface BaseModel {
  readonly id: string;
  /** SHA-256 of its canonical bytes: what a round manifest names. */
  readonly sha256: string;
  /** Side of the square input in pixels. */
  readonly inputSize: number;
  /** How a face is cut out for it; part of its identity. */
  readonly alignment: Alignment;
  readonly embeddingSize: number;
  readonly licence: string;
  /** All weights by name, as they stand in the graph's initializers. */
  readonly weights: ReadonlyMap<string, FloatTensor>;
  readonly layers: readonly AdaptableLayer[];
  /** Named sets of modules; every base has at least `default` and `all`. */
  readonly presets: Readonly<Record<string, readonly string[]>>;
  /** Constant factor on the embedding before the head, so that one head learning rate suits every base. */
  readonly headGain: number;
  /**
   * About how long an embedding of a face is, before `headGain`; absent where nobody has measured it. No part of the identity: only
   * where a head starts depends on it, and that is sent.
   */
  readonly embeddingLength?: number;
  /** For people to see; it is part of the graph already. */
  readonly normalisation?: Normalisation;
  readonly preprocessing?: Preprocessing;
  /** Forward graph: input `pixels` float32 [batch, 3, size, size], RGB 0…255 (normalisation is inside); output `embedding` [batch, embeddingSize]. */
  buildGraph(batch: number): Graph;
}

/**
 * A base model's identity, which depends on its weights alone and not on the file they came from: SHA-256 over the weights in the order of their names; of each the JSON of its name and shape, a line
 * feed, then its float32 values in little-endian order.
 */
export function hashWeights(weights: ReadonlyMap<string, FloatTensor>): string {
  const hash = createHash('sha256');
  for (const name of [...weights.keys()].sort()) {
    const { dims, data } = weights.get(name)!;
    hash.update(`${JSON.stringify([name, dims])}\n`);
    hash.update(littleEndianBytes(data));
  }
  return hash.digest('hex');
}

/**
 * The same network with another alignment, which is another base model: sites that cut faces differently must not train it
 * together. {@link originalAlignment} leaves the identity as it is: what was recorded before alignment was part of it stays true.
 * @param base as its format opens it, with the original alignment
 */
export function alignBase(base: BaseModel, alignment: Alignment): BaseModel {
  if (alignment === originalAlignment) return base;
  return { ...base, alignment, sha256: hashJson({ network: base.sha256, alignment }) };
}

function littleEndianBytes(data: Float32Array): Uint8Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32();
}
