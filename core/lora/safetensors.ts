/**
 * Reader of the safetensors format, strict; safetensors-writer.ts is its counterpart.
 * Source: https://github.com/huggingface/safetensors (README, "Format"): 8 bytes little-endian length of
 * the header, a JSON header `{name: {dtype, shape, data_offsets}}`, then the values without holes.
 */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { halfToNumber } from '../shared/half-precision.ts';
import { elementCount, type FloatTensor } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';

export { encodeSafetensors, safetensorsSizeBytes, type TensorEntry } from './safetensors-writer.ts';

/** The reference implementation's own limit. */
const maxHeaderBytes = 100_000_000;
const maxFaultCharacters = 400;
const metadataKey = '__metadata__';

/** Bytes per value of the types whose values fit a float32 tensor. */
const floatBytes = { F32: 4, F16: 2, BF16: 2, F64: 8 } as const;
export type FloatType = keyof typeof floatBytes;
/** Bytes per value of every type that the format knows. */
const valueBytes: Readonly<Record<string, number>> = {
  ...floatBytes,
  ...{ BOOL: 1, U8: 1, I8: 1, F8_E5M2: 1, F8_E4M3: 1, I16: 2, U16: 2, I32: 4, U32: 4, I64: 8, U64: 8 },
};
/** The header's length stands before it. */
export const lengthBytes = 8;

/** One tensor as the header describes it. */
export interface SafetensorsEntry {
  readonly name: string;
  /** As the format writes it, for instance `BF16`. */
  readonly dtype: string;
  readonly dims: readonly number[];
  /** Its bytes, counted from where the values begin. */
  readonly start: number;
  readonly end: number;
}

export interface SafetensorsFile {
  /** By name, in the order of their offsets. F16, BF16 and F64 were converted to float32. */
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const tensorSchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(size).max(16),
  data_offsets: z.tuple([size, size]),
});
const metadataSchema = z.record(z.string(), z.string());

/**
 * Reads a whole file held in memory; `openSafetensors` reads one from disk, tensor by tensor.
 * @param bytes the file
 * @param name what the file is called in errors (no folder)
 * @param options `finite`: NaN and infinity are refused; otherwise they are not looked for. `handedOver`: the caller uses
 *   `bytes` no more, so that float32 values may stay where they are; otherwise all are copied
 * @throws AppError MODEL_FILE_INVALID for anything that the format does not allow
 */
export function decodeSafetensors(
  bytes: Uint8Array,
  name: string,
  options: { finite?: boolean; handedOver?: boolean } = {},
): SafetensorsFile {
  const { entries, metadata, bytesOf } = parseSafetensors(bytes, name);
  const tensors = new Map<string, FloatTensor>();
  for (const entry of entries.values()) {
    const dtype = requireFloat(entry, name);
    const raw = bytesOf(entry);
    const data =
      (options.handedOver === true && dtype === 'F32' ? floatsAt(raw) : null) ??
      floatsOf(raw, dtype, elementCount(entry.dims));
    if (options.finite === true) requireFinite(data, entry.name, name);
    tensors.set(entry.name, { dtype: 'float32', dims: entry.dims, data });
  }
  return { tensors, metadata };
}

/** A view of float32 values; null where they do not lie as they could be read in place. */
function floatsAt({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array | null {
  const isAligned = byteOffset % Float32Array.BYTES_PER_ELEMENT === 0;
  return isAligned ? new Float32Array(buffer, byteOffset, byteLength / 4) : null;
}

function floatsOf(raw: Uint8Array, dtype: FloatType, count: number): Float32Array {
  const data = new Float32Array(count);
  fillFloat32(data, 0, raw, dtype);
  return data;
}

/** A file held in memory whose tensors are not read yet. */
export interface RawSafetensors {
  /** By name, in the order of their offsets; of any type that the format knows. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  /** The values of an entry as they lie in the file: a view. */
  bytesOf(entry: SafetensorsEntry): Uint8Array;
}

/** Reads and checks the header alone. @throws AppError MODEL_FILE_INVALID */
export function parseSafetensors(bytes: Uint8Array, name: string): RawSafetensors {
  const valuesStart = headerEnd(bytes, bytes.length, name);
  const header = bytes.subarray(lengthBytes, valuesStart);
  const { entries, metadata } = parseHeader(header, bytes.length - valuesStart, name);
  return {
    entries: new Map(entries.map((entry) => [entry.name, entry])),
    metadata,
    bytesOf: ({ start, end }) => bytes.subarray(valuesStart + start, valuesStart + end),
  };
}

/** MODEL_FILE_INVALID with a sentence about the named file. */
export function invalid(name: string, what: string, cause?: unknown): AppError {
  // Names in a hostile file can be as long as the file.
  const short = what.length > maxFaultCharacters ? `${what.slice(0, maxFaultCharacters)}…` : what;
  return new AppError('MODEL_FILE_INVALID', `${name} is not a valid model file: ${short}.`, { cause });
}

/**
 * Where the values of a file begin. @param start the file's first bytes, 8 at least
 * @throws AppError MODEL_FILE_INVALID
 */
export function headerEnd(start: Uint8Array, fileBytes: number, name: string): number {
  if (fileBytes < lengthBytes || start.length < lengthBytes) {
    throw invalid(name, `expected at least ${plural(lengthBytes, 'byte')}, found ${fileBytes}`);
  }
  const length = new DataView(start.buffer, start.byteOffset, lengthBytes).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes) || BigInt(lengthBytes) + length > BigInt(fileBytes)) {
    throw invalid(name, `its header claims ${length} bytes, which is too long or more than the file holds`);
  }
  return lengthBytes + Number(length);
}

/**
 * Reads the header and checks that its tensors fill the values exactly, one after the other.
 * @param header the JSON text alone
 * @param valuesBytes how many bytes follow it in the file
 * @returns entries in the order of their offsets, of any type that the format knows
 * @throws AppError MODEL_FILE_INVALID
 */
export function parseHeader(
  header: Uint8Array,
  valuesBytes: number,
  name: string,
): { entries: SafetensorsEntry[]; metadata: Record<string, string> } {
  const fields = readFields(header, name);
  const metadata = readMetadata(fields, name);
  const entries = Object.entries(fields)
    .filter(([tensor]) => tensor !== metadataKey)
    .map(([tensor, value]) => readEntry(tensor, value, name))
    .sort((x, y) => x.start - y.start || x.end - y.end);
  let expected = 0;
  for (const entry of entries) {
    if (entry.start !== expected) {
      const fault = entry.start < expected ? 'overlaps another tensor' : 'leaves a hole before it';
      throw invalid(name, `tensor "${entry.name}" ${fault}: expected it to begin at byte ${expected}`);
    }
    expected = entry.end;
    if (entry.end > valuesBytes) {
      throw invalid(
        name,
        `tensor "${entry.name}" ends at byte ${entry.end} of the values, but there are only ${valuesBytes}`,
      );
    }
  }
  if (expected !== valuesBytes) {
    throw invalid(name, `expected ${plural(expected, 'byte')} of values, found ${valuesBytes}`);
  }
  return { entries, metadata };
}

function readFields(bytes: Uint8Array, name: string): Record<string, unknown> {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    if (!text.startsWith('{')) throw new SyntaxError('the header does not begin with {');
    const fields: unknown = JSON.parse(text);
    const repeated = findRepeatedKey(text);
    if (repeated !== null) throw invalid(name, `the name "${repeated}" occurs twice in its header`);
    return fields as Record<string, unknown>;
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw invalid(name, 'its header is not JSON text', error);
  }
}

/** JSON.parse silently keeps the last of equal keys, by which two readers could see different tensors. */
function findRepeatedKey(validJson: string): string | null {
  const scopes: Set<string>[] = [];
  for (const [token] of validJson.matchAll(/"(?:[^"\\]|\\.)*"(?:\s*:)?|[{}]/gs)) {
    if (token === '{') scopes.push(new Set());
    else if (token === '}') scopes.pop();
    else if (token.endsWith(':')) {
      const key: string = JSON.parse(token.slice(0, token.lastIndexOf('"') + 1));
      const scope = scopes.at(-1)!;
      if (scope.has(key)) return key;
      scope.add(key);
    }
  }
  return null;
}

function readMetadata(header: Record<string, unknown>, name: string): Record<string, string> {
  const value = Object.hasOwn(header, metadataKey) ? header[metadataKey] : {};
  const parsed = metadataSchema.safeParse(value);
  if (!parsed.success) throw invalid(name, 'its metadata is not a table of strings', parsed.error);
  return parsed.data;
}

function readEntry(tensor: string, value: unknown, name: string): SafetensorsEntry {
  const parsed = tensorSchema.safeParse(value);
  if (!parsed.success) {
    throw invalid(
      name,
      `tensor "${tensor}": expected dtype, shape and data_offsets in its header`,
      parsed.error,
    );
  }
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  if (!Object.hasOwn(valueBytes, dtype)) {
    throw invalid(
      name,
      `tensor "${tensor}" has type ${dtype}: expected ${Object.keys(floatBytes).join(', ')}`,
    );
  }
  const [start, end] = offsets;
  const wanted = elementCount(shape) * valueBytes[dtype]!;
  if (end - start !== wanted) {
    throw invalid(
      name,
      `tensor "${tensor}": ${dtype} of shape [${shape.join(', ')}] takes ${plural(wanted, 'byte')}, found ${end - start}`,
    );
  }
  return { name: tensor, dtype, dims: shape, start, end };
}

/** @throws AppError MODEL_FILE_INVALID for whole numbers, truth values and 8-bit floats */
export function requireFloat({ name: tensor, dtype }: SafetensorsEntry, name: string): FloatType {
  if (Object.hasOwn(floatBytes, dtype)) return dtype as FloatType;
  throw invalid(name, `tensor "${tensor}" has type ${dtype}: expected ${Object.keys(floatBytes).join(', ')}`);
}

/** @throws AppError MODEL_FILE_INVALID naming the tensor and the place of the first NaN or infinity */
export function requireFinite(data: Float32Array, tensor: string, name: string): void {
  for (let index = 0; index < data.length; index++) {
    if (!Number.isFinite(data[index]!)) {
      throw invalid(
        name,
        `tensor "${tensor}" holds ${data[index]} at place ${index}: expected finite numbers`,
      );
    }
  }
}

/** Writes the little-endian values in `raw` to `target` from `offset` on, as float32. `raw` may lie anywhere. */
export function fillFloat32(target: Float32Array, offset: number, raw: Uint8Array, dtype: FloatType): void {
  const count = raw.byteLength / floatBytes[dtype];
  if (dtype === 'F32') {
    new Uint8Array(target.buffer, target.byteOffset + 4 * offset, 4 * count).set(raw);
    return;
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  if (dtype === 'F64') {
    for (let i = 0; i < count; i++) target[offset + i] = view.getFloat64(8 * i, true);
  } else if (dtype === 'BF16') {
    // A bfloat16 is the upper half of a float32.
    const bits = new Uint32Array(target.buffer, target.byteOffset + 4 * offset, count);
    for (let i = 0; i < count; i++) bits[i] = view.getUint16(2 * i, true) << 16;
  } else {
    halves ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => halfToNumber(bits));
    for (let i = 0; i < count; i++) target[offset + i] = halves[view.getUint16(2 * i, true)]!;
  }
}

/** All values of binary16 by their bits; made when a file first needs them. */
let halves: Float32Array | undefined;

/** A value that is JSON inside the metadata's text. @throws AppError MODEL_FILE_INVALID naming file and key */
export function parseMetadataJson<T>(text: string, schema: z.ZodType<T>, key: string, name: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw invalid(name, `its metadata "${key}" cannot be read`, error);
  }
}
