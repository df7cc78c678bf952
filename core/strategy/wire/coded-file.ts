/**
 * A part of a state, or a state in fewer bits, as one safetensors file. Its metadata says what kind of file it is,
 * what travels and how precisely; the reader refuses a file that says something else than the run's settings.
 */
import { z } from 'zod';
import type { WirePrecision } from '../../config/round-options.ts';
import type { StateShape } from '../../lora/model-state.ts';
import {
  fillFloat32,
  invalid,
  parseSafetensors,
  type RawSafetensors,
  requireFinite,
} from '../../lora/safetensors.ts';
import {
  bytesOfFloats,
  encodeRawSafetensors,
  type RawTensor,
  safetensorsSizeBytes,
  type TensorEntry,
} from '../../lora/safetensors-writer.ts';
import {
  type LayerTable,
  modelStateSizeBytes,
  readStateMetadata,
  stateMetadata,
} from '../../lora/state-file.ts';
import { AppError } from '../../shared/errors.ts';
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../../shared/tensor.ts';
import { codeTensor, groupCount, nameOfScales, scaleIntegers, typeOf } from './numbers.ts';
import {
  type FileForm,
  isPlainFile,
  type Residual,
  type WireEntry,
  type WireParts,
  wireEntries,
} from './wire-context.ts';

const format = 'anneal-wire';
const formatVersion = '1';

const metadataSchema = z.strictObject({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  kind: z.string(),
  precision: z.string(),
  parts: z.string(),
  baseSha256: z.string(),
  classes: z.string(),
  lora: z.string(),
});

const partsText = ({ a, b, head, seeded }: WireParts) =>
  [a && 'lora_A', seeded !== undefined && 'lora_A.mixing', b && 'lora_B', head && 'head', 'base']
    .filter((part) => part !== false)
    .join(' ');

const metadataOf = (shape: StateShape, { kind, precision, parts }: FileForm) =>
  stateMetadata(shape, { format, formatVersion, kind, precision, parts: partsText(parts) });

/** Number of model values in the file of a state of this shape; scales of int8 are bytes but no values. */
export function fileValueCount(shape: StateShape, { parts }: FileForm): number {
  return wireEntries(shape, parts).reduce((sum, { dims }) => sum + elementCount(dims), 0);
}

/** Exact size in bytes of the file of a state of this shape. */
export function fileSizeBytes(shape: StateShape, form: FileForm): number {
  const { precision, parts } = form;
  if (isPlainFile(form)) return modelStateSizeBytes(parts.head ? shape : { ...shape, head: new Map() });
  const values = wireEntries(shape, parts);
  const entries: TensorEntry[] = values.map(({ name, dims }) => ({ name, dims, dtype: typeOf[precision] }));
  const groups = values.reduce((sum, entry) => sum + groupCount(entry), 0);
  // Scales first: they need an alignment that bytes do not.
  if (precision === 'int8') entries.unshift({ name: nameOfScales, dims: [groups] });
  return safetensorsSizeBytes(entries, metadataOf(shape, form));
}

export interface CodedFile {
  bytes: Uint8Array;
  /** What rounding took, for tensors named in `carried`. */
  residual: Residual;
}

/**
 * Writes the travelling tensors as differences from `predicted` (0 where it has none).
 * @param tensors of the state, by their names in the file
 * @param options `residual`: what rounding took last time, added where names and shapes agree; `carries`: which
 *   tensors' rounding is given back
 * @throws AppError TRAINING_FAILED naming a tensor that holds no finite numbers
 */
export function encodeCoded(
  shape: StateShape,
  tensors: ReadonlyMap<string, FloatTensor>,
  form: FileForm,
  options: {
    predicted: (name: string) => FloatTensor | undefined;
    residual?: Residual | undefined;
    carries?: (name: string) => boolean;
  },
): CodedFile {
  const { predicted, residual: earlier, carries = () => false } = options;
  const written: RawTensor[] = [];
  const scales: Float32Array[] = [];
  const residual = new Map<string, FloatTensor>();
  for (const entry of wireEntries(shape, form.parts)) {
    const { data } = tensors.get(entry.name)!;
    requireTrained(data, entry.name);
    const start = form.precision === 'fp32' ? undefined : predicted(entry.name)?.data;
    const carried = carries(entry.name);
    const left = carried ? sameShape(earlier?.get(entry.name), entry.dims) : undefined;
    // Sums of float32 values, rounded once.
    const wanted = left === undefined ? data : data.map((value, i) => value + left.data[i]!);
    const change = start === undefined ? wanted : wanted.map((value, i) => value - start[i]!);
    const coded = codeTensor(entry, change, form.precision);
    written.push(coded.tensor);
    scales.push(coded.scales);
    if (!carried) continue;
    const arrives = addPredicted(coded.decoded, start);
    residual.set(
      entry.name,
      floatTensor(
        entry.dims,
        wanted.map((value, i) => value - arrives[i]!),
      ),
    );
  }
  if (form.precision === 'int8') written.unshift(scaleTensor(scales));
  return { bytes: encodeRawSafetensors(written, metadataOf(shape, form)), residual };
}

function scaleTensor(parts: readonly Float32Array[]): RawTensor {
  const all = Float32Array.from(parts.flatMap((part) => [...part]));
  return { name: nameOfScales, dims: [all.length], bytes: bytesOfFloats(all) };
}

function sameShape(tensor: FloatTensor | undefined, dims: readonly number[]): FloatTensor | undefined {
  return tensor !== undefined && sameDims(tensor.dims, dims) ? tensor : undefined;
}

function requireTrained(data: Float32Array, name: string): void {
  if (data.every(Number.isFinite)) return;
  throw new AppError('TRAINING_FAILED', `The trained "${name}" holds values that are not finite numbers.`);
}

/** As both ends compute it: one float32 sum per value. */
function addPredicted(change: Float32Array, start: Float32Array | undefined): Float32Array {
  return start === undefined ? change : change.map((value, i) => value + start[i]!);
}

export interface OpenedFile {
  readonly baseSha256: string;
  readonly classes: readonly string[];
  readonly layers: LayerTable;
  readonly names: readonly string[];
  /**
   * Reads all tensors of the entries. @throws AppError MODEL_FILE_INVALID for a missing or further tensor, another
   * type or shape, and values or scales that are not finite
   */
  read(
    entries: readonly WireEntry[],
    predicted: (name: string) => FloatTensor | undefined,
  ): Map<string, FloatTensor>;
}

/**
 * Reads the metadata and checks that it is the file that the settings ask for.
 * @throws AppError MODEL_FILE_INVALID
 */
export function openCoded(bytes: Uint8Array, name: string, form: FileForm): OpenedFile {
  const file = parseSafetensors(bytes, name);
  const parsed = metadataSchema.safeParse(file.metadata);
  if (!parsed.success) {
    throw invalid(name, `expected the metadata of an ${format} of version ${formatVersion}`, parsed.error);
  }
  const { kind, precision, parts, baseSha256 } = parsed.data;
  const expected = { kind: form.kind, precision: form.precision, parts: partsText(form.parts) };
  for (const [key, found] of Object.entries({ kind, precision, parts })) {
    const wanted = expected[key as keyof typeof expected];
    if (found !== wanted) throw invalid(name, `its ${key} is "${found}": this round expects "${wanted}"`);
  }
  return {
    baseSha256,
    ...readStateMetadata(parsed.data, name),
    names: [...file.entries.keys()],
    read: (entries, predicted) => readTensors(file, name, form.precision, entries, predicted),
  };
}

function readTensors(
  file: RawSafetensors,
  name: string,
  precision: WirePrecision,
  entries: readonly WireEntry[],
  predicted: (name: string) => FloatTensor | undefined,
): Map<string, FloatTensor> {
  const rest = new Set(file.entries.keys());
  const take = (tensor: string, dtype: string, dims: readonly number[]): Uint8Array => {
    const entry = file.entries.get(tensor);
    if (entry === undefined) throw invalid(name, `tensor "${tensor}" is missing`);
    rest.delete(tensor);
    if (entry.dtype !== dtype || !sameDims(entry.dims, dims)) {
      const found = `found ${entry.dtype} [${entry.dims.join(', ')}]`;
      throw invalid(name, `tensor "${tensor}": expected ${dtype} [${dims.join(', ')}], ${found}`);
    }
    return file.bytesOf(entry);
  };
  const tensors = new Map<string, FloatTensor>();
  const scalesOf = precision === 'int8' ? readScales(entries, take, name) : () => new Float32Array(0);
  for (const entry of entries) {
    const raw = take(entry.name, typeOf[precision], entry.dims);
    const change =
      precision === 'int8'
        ? scaleIntegers(entry, new Int8Array(raw.buffer, raw.byteOffset, raw.length), scalesOf(entry))
        : readFloats(raw, elementCount(entry.dims), typeOf[precision]);
    const start = precision === 'fp32' ? undefined : predicted(entry.name)?.data;
    const data = addPredicted(change, start);
    requireFinite(data, entry.name, name);
    tensors.set(entry.name, floatTensor(entry.dims, data));
  }
  const [further] = rest;
  if (further !== undefined) throw invalid(name, `tensor "${further}" was not expected`);
  return tensors;
}

/** Cuts the tensor of scales into those of each entry, in their order. */
function readScales(
  entries: readonly WireEntry[],
  take: (tensor: string, dtype: string, dims: readonly number[]) => Uint8Array,
  name: string,
): (entry: WireEntry) => Float32Array {
  const count = entries.reduce((sum, entry) => sum + groupCount(entry), 0);
  const scales = readFloats(take(nameOfScales, 'F32', [count]), count, 'F32');
  const wrong = scales.findIndex((scale) => !(Number.isFinite(scale) && scale >= 0));
  if (wrong !== -1) {
    const found = `holds ${scales[wrong]} at place ${wrong}`;
    throw invalid(name, `tensor "${nameOfScales}" ${found}: expected finite numbers of at least 0`);
  }
  let next = 0;
  return (entry) => {
    const from = next;
    next += groupCount(entry);
    return scales.subarray(from, next);
  };
}

function readFloats(raw: Uint8Array, count: number, dtype: 'F32' | 'F16'): Float32Array {
  const values = new Float32Array(count);
  fillFloat32(values, 0, raw, dtype);
  return values;
}
