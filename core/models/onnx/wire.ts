/**
 * A strict reader of protobuf's wire format. The decoders that protobufjs generates trust nested lengths, recurse
 * as deep as a file wants and unpack packed numbers into arrays of several times their size; files that come
 * from strangers deserve better.
 * Source: https://protobuf.dev/programming-guides/encoding/
 */

/** What is wrong with the bytes; callers add the file's name. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

/** One field of a message. Numbers of 32 and 64 bits stay raw until the reader of the message asks. */
export type WireField =
  | { readonly number: number; readonly kind: 'varint'; readonly value: bigint }
  | { readonly number: number; readonly kind: 'fixed32' | 'fixed64' | 'bytes'; readonly bytes: Uint8Array };

/** Reads a varint at `offset`. @throws WireError when it is cut off or longer than ten bytes */
function readVarint(bytes: Uint8Array, offset: number): { value: bigint; next: number } {
  let low = 0;
  // Most varints are short: stay with small integers as long as they hold 28 bits.
  for (let index = 0; index < 4; index++) {
    const byte = bytes[offset + index];
    if (byte === undefined) throw new WireError('it ends in the middle of a number');
    low |= (byte & 0x7f) << (7 * index);
    if (byte < 0x80) return { value: BigInt(low), next: offset + index + 1 };
  }
  let value = BigInt(low);
  for (let index = 4; index < 10; index++) {
    const byte = bytes[offset + index];
    if (byte === undefined) throw new WireError('it ends in the middle of a number');
    value |= BigInt(byte & 0x7f) << BigInt(7 * index);
    if (byte < 0x80) return { value: BigInt.asUintN(64, value), next: offset + index + 1 };
  }
  throw new WireError('it holds a number of more than ten bytes');
}

/** The fields of one message, in the file's order. Byte ranges are views. @throws WireError */
export function* readFields(message: Uint8Array): Generator<WireField> {
  let offset = 0;
  while (offset < message.length) {
    const tag = readVarint(message, offset);
    offset = tag.next;
    if (tag.value > 0xffffffffn || tag.value < 8n) throw new WireError('it holds an impossible field number');
    const number = Number(tag.value) >>> 3;
    const wireType = Number(tag.value) & 7;
    if (wireType === 0) {
      const { value, next } = readVarint(message, offset);
      offset = next;
      yield { number, kind: 'varint', value };
      continue;
    }
    let size: number;
    if (wireType === 1) size = 8;
    else if (wireType === 5) size = 4;
    else if (wireType === 2) {
      const length = readVarint(message, offset);
      offset = length.next;
      if (length.value > BigInt(message.length - offset)) {
        throw new WireError(`a part claims ${length.value} bytes where ${message.length - offset} are left`);
      }
      size = Number(length.value);
    } else throw new WireError(`it holds an unknown wire type (${wireType})`);
    if (size > message.length - offset) throw new WireError('it ends in the middle of a number');
    const kind = wireType === 1 ? 'fixed64' : wireType === 5 ? 'fixed32' : 'bytes';
    yield { number, kind, bytes: message.subarray(offset, offset + size) };
    offset += size;
  }
}

/** A nested message, text or blob. */
export function bytesOf(field: WireField): Uint8Array {
  if (field.kind !== 'bytes') throw new WireError(`field ${field.number} is a number where bytes belong`);
  return field.bytes;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Text of at most 64 KiB. */
export function textOf(field: WireField): string {
  return decodeText(bytesOf(field));
}

export function decodeText(bytes: Uint8Array): string {
  if (bytes.length > 65_536) throw new WireError(`it holds a name of ${bytes.length} bytes`);
  try {
    return utf8.decode(bytes);
  } catch {
    throw new WireError('it holds a name that is not UTF-8 text');
  }
}

/** A signed 64-bit integer. */
export function int64Of(field: WireField): bigint {
  if (field.kind !== 'varint') throw new WireError(`field ${field.number} is not an integer`);
  return BigInt.asIntN(64, field.value);
}

/** An integer that a double holds exactly. */
export function integerOf(field: WireField): number {
  return safeInteger(int64Of(field));
}

export function safeInteger(value: bigint): number {
  const result = Number(value);
  if (!Number.isSafeInteger(result))
    throw new WireError(`it holds the integer ${value}, which is out of range`);
  return result;
}

export function floatOf(field: WireField): number {
  if (field.kind !== 'fixed32') throw new WireError(`field ${field.number} is not a 32-bit number`);
  return viewOf(field.bytes).getFloat32(0, true);
}

/** Appends the integers of one field: packed, or a single one. @throws WireError beyond `limit` */
export function pushIntegers(field: WireField, into: bigint[], limit: number): void {
  if (field.kind === 'varint') into.push(BigInt.asIntN(64, field.value));
  else {
    const bytes = bytesOf(field);
    for (let offset = 0; offset < bytes.length; ) {
      const { value, next } = readVarint(bytes, offset);
      into.push(BigInt.asIntN(64, value));
      offset = next;
      if (into.length > limit) break;
    }
  }
  if (into.length > limit) throw new WireError(`field ${field.number} holds more than ${limit} integers`);
}

/** Raw little-endian bytes of packed or single 32- or 64-bit numbers. */
export function fixedBytesOf(field: WireField, size: 4 | 8): Uint8Array {
  const single = size === 4 ? 'fixed32' : 'fixed64';
  if (field.kind !== single && field.kind !== 'bytes') {
    throw new WireError(`field ${field.number} is not a number of ${size} bytes`);
  }
  if (field.bytes.length % size !== 0)
    throw new WireError(`field ${field.number} ends in the middle of a number`);
  return field.bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
