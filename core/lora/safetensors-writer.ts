/** Writer of the safetensors format; safetensors.ts has its source and the reader. */
import { elementCount, type FloatTensor } from '../shared/tensor.ts';

/** Bytes per value of the types that Anneal writes. */
const writtenBytes = { F32: 4, F16: 2, I8: 1, U8: 1 } as const;
export type WrittenType = keyof typeof writtenBytes;
const metadataKey = '__metadata__';

/** Name, shape and type of a tensor, as far as the size of a file depends on it. */
export interface TensorEntry {
  readonly name: string;
  readonly dims: readonly number[];
  /** `F32` when absent. */
  readonly dtype?: WrittenType;
}

/** A tensor with its values as they are written: little-endian, row by row. */
export interface RawTensor extends TensorEntry {
  readonly bytes: Uint8Array;
}

const sizeOf = ({ dims, dtype = 'F32' }: TensorEntry) => elementCount(dims) * writtenBytes[dtype];

/** Header as the file begins: length and JSON, padded with spaces so that the values are aligned to 8 bytes. */
function encodeHeader(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): Buffer {
  // Written as text, not as an object: an object would move integer-like names to the front.
  const fields = [`${JSON.stringify(metadataKey)}:${JSON.stringify(metadata)}`];
  const seen = new Set([metadataKey]);
  let offset = 0;
  for (const entry of entries) {
    const { name, dims, dtype = 'F32' } = entry;
    if (seen.has(name)) throw new RangeError(`tensor name "${name}" cannot be used twice or is reserved`);
    seen.add(name);
    const end = offset + sizeOf(entry);
    fields.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape: dims, data_offsets: [offset, end] })}`,
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

/** Size in bytes of the file that {@link encodeRawSafetensors} makes of tensors of these names, shapes and types. */
export function safetensorsSizeBytes(
  entries: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>>,
): number {
  return entries.reduce((sum, entry) => sum + sizeOf(entry), encodeHeader(entries, metadata).length);
}

/**
 * One file of tensors in the given order.
 * @throws RangeError for a reserved or repeated name, or values that do not fill the shape
 */
export function encodeRawSafetensors(
  tensors: readonly RawTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const header = encodeHeader(tensors, metadata);
  const sizeBytes = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), header.length);
  const file = new Uint8Array(sizeBytes);
  file.set(header);
  let offset = header.length;
  for (const tensor of tensors) {
    if (tensor.bytes.length !== sizeOf(tensor)) {
      throw new RangeError(`"${tensor.name}" has ${tensor.bytes.length} bytes, expected ${sizeOf(tensor)}`);
    }
    file.set(tensor.bytes, offset);
    offset += tensor.bytes.length;
  }
  return file;
}

/** One file of float32 tensors in the order of the map. @throws RangeError for a reserved name */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, FloatTensor>,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const raw = [...tensors].map(([name, { dims, data }]) => ({ name, dims, bytes: bytesOfFloats(data) }));
  return encodeRawSafetensors(raw, metadata);
}

/** The bytes of float32 values: a view. */
export function bytesOfFloats(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
