/**
 * Reader and writer of the safetensors format, strict in both directions.
 * Source: https://github.com/huggingface/safetensors (README, "Format"): 8 bytes little-endian length of
 * the header, a JSON header `{name: {dtype, shape, data_offsets}}`, then the values without holes.
 */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { elementCount, type FloatTensor } from '../shared/tensor.ts';

/** The reference implementation's own limit. */
const maxHeaderBytes = 100_000_000;
const metadataKey = '__metadata__';

/** Bytes per value of the types whose values fit a float32 tensor. */
const floatBytes = { F32: 4, F16: 2, BF16: 2, F64: 8 } as const;
type FloatType = keyof typeof floatBytes;

export interface SafetensorsFile {
  /** By name, in the order of their offsets. F16, BF16 and F64 were converted to float32. */
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Name and shape of a tensor, as far as the size of a file depends on it. */
export interface TensorEntry {
  readonly name: string;
  readonly dims: readonly number[];
}

const size = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const tensorSchema = z.strictObject({
  dtype: z.string(),
  shape: z.array(size).max(16),
  data_offsets: z.tuple([size, size]),
});
const metadataSchema = z.record(z.string(), z.string());

/** Header as the file begins: length and JSON, padded with spaces so that the values are aligned to 8 bytes. */
function encodeHeader(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): Buffer {
  // Written as text, not as an object: an object would move integer-like names to the front.
  const fields = [`${JSON.stringify(metadataKey)}:${JSON.stringify(metadata)}`];
  const seen = new Set([metadataKey]);
  let offset = 0;
  for (const { name, dims } of entries) {
    if (seen.has(name)) throw new RangeError(`tensor name "${name}" cannot be used twice or is reserved`);
    seen.add(name);
    const end = offset + elementCount(dims) * floatBytes.F32;
    fields.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: 'F32', shape: dims, data_offsets: [offset, end] })}`,
    );
    offset = end;
  }
  const json = Buffer.from(`{${fields.join(',')}}`, 'utf8');
  const padded = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(8 + padded, ' ');
  header.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(header, 8);
  return header;
}

/** Size in bytes of the file that {@link encodeSafetensors} makes of tensors of these names and shapes. */
export function safetensorsSizeBytes(
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>>,
): number {
  const values = entries.reduce((sum, { dims }) => sum + elementCount(dims) * floatBytes.F32, 0);
  return encodeHeader(entries, metadata).length + values;
}

/** One file of float32 tensors in the order of the map. @throws RangeError for a reserved name */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, FloatTensor>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries = [...tensors].map(([name, { dims }]) => ({ name, dims }));
  const header = encodeHeader(entries, metadata);
  const sizeBytes = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, header.length);
  const bytes = new Uint8Array(sizeBytes);
  bytes.set(header);
  let offset = header.length;
  for (const { data } of tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += data.byteLength;
  }
  return bytes;
}

/**
 * Reads a whole file held in memory. Values are copied, never shared with `bytes`; NaN is not looked for.
 * @param bytes the file
 * @param name what the file is called in errors (no folder)
 * @throws AppError MODEL_FILE_INVALID for anything that the format does not allow
 */
export function decodeSafetensors(bytes: Uint8Array, name: string): SafetensorsFile {
  const { header, valuesStart } = readHeader(bytes, name);
  const metadata = readMetadata(header, name);
  const entries = Object.entries(header)
    .filter(([tensor]) => tensor !== metadataKey)
    .map(([tensor, value]) => readEntry(tensor, value, name))
    .sort((x, y) => x.start - y.start || x.end - y.end);

  const tensors = new Map<string, FloatTensor>();
  let expected = 0;
  for (const entry of entries) {
    if (entry.start !== expected) {
      const fault = entry.start < expected ? 'overlaps another tensor' : 'leaves a hole before it';
      throw invalid(name, `tensor "${entry.tensor}" ${fault}: expected it to begin at byte ${expected}`);
    }
    expected = entry.end;
    if (valuesStart + entry.end > bytes.length) {
      throw invalid(
        name,
        `tensor "${entry.tensor}" ends at byte ${entry.end} of the values, but only ` +
          `${bytes.length - valuesStart} bytes are there`,
      );
    }
    // A copy with a buffer of its own; Buffer's `slice` would give a view into a shared pool.
    const raw = new Uint8Array(bytes.subarray(valuesStart + entry.start, valuesStart + entry.end));
    tensors.set(entry.tensor, { dtype: 'float32', dims: entry.dims, data: toFloat32(raw, entry.dtype) });
  }
  if (valuesStart + expected !== bytes.length) {
    throw invalid(name, `expected ${expected} bytes of values, found ${bytes.length - valuesStart}`);
  }
  return { tensors, metadata };
}

/** MODEL_FILE_INVALID with a sentence about the named file. */
export function invalid(name: string, what: string, cause?: unknown): AppError {
  return new AppError('MODEL_FILE_INVALID', `${name} is not a valid model file: ${what}.`, { cause });
}

function readHeader(
  bytes: Uint8Array,
  name: string,
): { header: Record<string, unknown>; valuesStart: number } {
  if (bytes.length < 8) throw invalid(name, `expected at least 8 bytes, found ${bytes.length}`);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes) || 8n + length > BigInt(bytes.length)) {
    throw invalid(name, `its header claims ${length} bytes, which the file does not hold or is too long`);
  }
  const valuesStart = 8 + Number(length);
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(8, valuesStart),
    );
    if (!text.startsWith('{')) throw new SyntaxError('the header does not begin with {');
    header = JSON.parse(text);
    const repeated = findRepeatedKey(text);
    if (repeated !== null) throw invalid(name, `the name "${repeated}" occurs twice in its header`);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw invalid(name, 'its header is not JSON text', error);
  }
  return { header: header as Record<string, unknown>, valuesStart };
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
  if (!parsed.success) throw invalid(name, 'its metadata is not a table of texts', parsed.error);
  return parsed.data;
}

interface Entry {
  tensor: string;
  dtype: FloatType;
  dims: number[];
  start: number;
  end: number;
}

function readEntry(tensor: string, value: unknown, name: string): Entry {
  const parsed = tensorSchema.safeParse(value);
  if (!parsed.success) {
    throw invalid(
      name,
      `tensor "${tensor}": expected dtype, shape and data_offsets in its header`,
      parsed.error,
    );
  }
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  if (!Object.hasOwn(floatBytes, dtype)) {
    throw invalid(
      name,
      `tensor "${tensor}" has type ${dtype}: expected ${Object.keys(floatBytes).join(', ')}`,
    );
  }
  const [start, end] = offsets;
  const wanted = elementCount(shape) * floatBytes[dtype as FloatType];
  if (end - start !== wanted) {
    throw invalid(
      name,
      `tensor "${tensor}": ${dtype} of shape [${shape.join(', ')}] takes ${wanted} bytes, found ${end - start}`,
    );
  }
  return { tensor, dtype: dtype as FloatType, dims: shape, start, end };
}

/** `raw` owns its buffer from offset 0, so every view of it is aligned. */
function toFloat32(raw: Uint8Array, dtype: FloatType): Float32Array {
  const { buffer, byteLength } = raw;
  if (dtype === 'F32') return new Float32Array(buffer, 0, byteLength / 4);
  if (dtype === 'F64') return Float32Array.from(new Float64Array(buffer, 0, byteLength / 8));
  const halves = new Uint16Array(buffer, 0, byteLength / 2);
  if (dtype === 'BF16') {
    // A bfloat16 is the upper half of a float32.
    return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
  }
  return Float32Array.from(halves, halfToNumber);
}

/** IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
