/** Tensors of an ONNX file as values: every element type that a face network may use, checked against its bytes. */
import type { AppError } from '../../shared/errors.ts';
import { halfToNumber } from '../../shared/half-precision.ts';
import { elementCount } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { type HostTensor, type HostType, hostTensor, newHostArray } from './host-tensor.ts';
import { elementTypeName, type FileTensor } from './onnx-file.ts';
import { invalidFile } from './read.ts';

/** More than any tensor of a network that fits a machine. */
const maxElements = 2 ** 31;

interface ElementFormat {
  readonly bytes: number;
  readonly host: HostType;
  /** Which typed field holds the values when raw_data does not. */
  readonly field: 'floatData' | 'doubleData' | 'integerData';
  readonly read: (view: DataView, offset: number) => number | bigint;
  /** A value of `integerData`, which holds bit patterns for the half-precision types. */
  readonly fromInteger: (value: bigint) => number | bigint;
}

const signed = (value: bigint) => Number(BigInt.asIntN(32, value));

function integerFormat(bytes: number, read: ElementFormat['read']): ElementFormat {
  return { bytes, host: 'int32', field: 'integerData', read, fromInteger: signed };
}

/** By TensorProto.DataType. */
const formats = new Map<number, ElementFormat>([
  [
    1,
    {
      bytes: 4,
      host: 'float32',
      field: 'floatData',
      read: (view, offset) => view.getFloat32(offset, true),
      fromInteger: Number,
    },
  ],
  [2, integerFormat(1, (view, offset) => view.getUint8(offset))],
  [3, integerFormat(1, (view, offset) => view.getInt8(offset))],
  [4, integerFormat(2, (view, offset) => view.getUint16(offset, true))],
  [5, integerFormat(2, (view, offset) => view.getInt16(offset, true))],
  [6, integerFormat(4, (view, offset) => view.getInt32(offset, true))],
  [7, wideFormat(8, (view, offset) => view.getBigInt64(offset, true))],
  [9, { ...integerFormat(1, (view, offset) => (view.getUint8(offset) === 0 ? 0 : 1)), host: 'bool' }],
  [10, halfFormat(halfToNumber)],
  [
    11,
    {
      bytes: 8,
      host: 'float32',
      field: 'doubleData',
      read: (view, offset) => view.getFloat64(offset, true),
      fromInteger: Number,
    },
  ],
  [12, wideFormat(4, (view, offset) => BigInt(view.getUint32(offset, true)))],
  [13, wideFormat(8, (view, offset) => view.getBigUint64(offset, true))],
  [16, halfFormat(bfloatToNumber)],
]);

function wideFormat(bytes: number, read: ElementFormat['read']): ElementFormat {
  return {
    bytes,
    host: 'int64',
    field: 'integerData',
    read,
    fromInteger: (value) => BigInt.asIntN(64, value),
  };
}

function halfFormat(convert: (bits: number) => number): ElementFormat {
  return {
    bytes: 2,
    host: 'float32',
    field: 'integerData',
    read: (view, offset) => convert(view.getUint16(offset, true)),
    fromInteger: (value) => convert(Number(BigInt.asUintN(16, value))),
  };
}

const bfloatView = new DataView(new ArrayBuffer(4));

/** A bfloat16 is the upper half of a float32. */
function bfloatToNumber(bits: number): number {
  bfloatView.setUint16(2, bits, true);
  return bfloatView.getFloat32(0, true);
}

/** How a message calls a tensor; those in attributes have no name. */
export function tensorLabel(tensor: FileTensor): string {
  return tensor.name === '' ? 'a constant' : `the tensor "${tensor.name}"`;
}

/** The host's type for a TensorProto.DataType, or undefined when it cannot be read. */
export function hostTypeOf(elementType: number): HostType | undefined {
  return formats.get(elementType)?.host;
}

/** Number of values. @throws AppError MODEL_FILE_INVALID for an unreadable type or an impossible shape */
export function checkedElementCount(tensor: FileTensor, label: string): number {
  if (!formats.has(tensor.elementType)) {
    const type = elementTypeName(tensor.elementType);
    throw invalidFile(label, `${tensorLabel(tensor)} has the type ${type}, which is not supported`);
  }
  const count = elementCount(tensor.dims);
  if (!Number.isSafeInteger(count) || count > maxElements) {
    throw invalidFile(label, `${tensorLabel(tensor)} of shape [${tensor.dims.join(', ')}] is too large`);
  }
  return count;
}

/** Bytes that the values take in raw form. @throws AppError MODEL_FILE_INVALID */
export function rawByteCount(tensor: FileTensor, label: string): number {
  return checkedElementCount(tensor, label) * formats.get(tensor.elementType)!.bytes;
}

/**
 * The values of a tensor, copied out of the file.
 * @param externalBytes its bytes when they lie in another file
 * @throws AppError MODEL_FILE_INVALID when shape and bytes disagree or a float is not finite
 */
export function readTensor(tensor: FileTensor, label: string, externalBytes?: Uint8Array): HostTensor {
  const count = checkedElementCount(tensor, label);
  const format = formats.get(tensor.elementType)!;
  const raw = externalBytes ?? tensor.rawData;
  const disagree = (found: string): AppError =>
    invalidFile(
      label,
      `${tensorLabel(tensor)} of shape [${tensor.dims.join(', ')}] and type ` +
        `${elementTypeName(tensor.elementType)} needs ${found}`,
    );
  let data: HostTensor['data'];
  if (raw !== undefined) {
    const wanted = count * format.bytes;
    if (raw.length !== wanted) throw disagree(`${plural(wanted, 'byte')}, found ${raw.length}`);
    data = fromRaw(raw, count, tensor.elementType, format);
  } else if (format.field === 'integerData') {
    const found = countIntegers(tensor.integerData);
    if (found !== count) throw disagree(`${plural(count, 'value')}, found ${found}`);
    data = fromIntegers(tensor.integerData, count, format);
  } else {
    const bytes = Buffer.concat(format.field === 'floatData' ? tensor.floatData : tensor.doubleData);
    const found = bytes.length / format.bytes;
    if (found !== count) throw disagree(`${plural(count, 'value')}, found ${found}`);
    data = fromRaw(bytes, count, tensor.elementType, format);
  }
  const result = hostTensor(format.host, tensor.dims, data as never);
  if (format.host === 'float32') checkFinite(result as HostTensor<'float32'>, tensor, label);
  return { ...result, elementType: tensor.elementType };
}

function fromRaw(
  raw: Uint8Array,
  count: number,
  elementType: number,
  format: ElementFormat,
): HostTensor['data'] {
  const data = newHostArray(format.host, count);
  // The common case: the bytes are those of the array already (every machine that Node runs on is little-endian).
  if (elementType === 1 || elementType === 7) {
    new Uint8Array(data.buffer as ArrayBuffer).set(raw);
    return data;
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  for (let index = 0; index < count; index++) data[index] = format.read(view, index * format.bytes);
  return data;
}

/** Varints end with a byte whose highest bit is clear. */
function countIntegers(parts: FileTensor['integerData']): number {
  let count = 0;
  for (const part of parts) {
    if (typeof part === 'bigint') count++;
    else for (const byte of part) if (byte < 0x80) count++;
  }
  return count;
}

function fromIntegers(
  parts: FileTensor['integerData'],
  count: number,
  format: ElementFormat,
): HostTensor['data'] {
  const data = newHostArray(format.host, count);
  const store = (index: number, value: bigint) => {
    const number = format.fromInteger(value);
    data[index] = format.host === 'bool' ? (number === 0 ? 0 : 1) : number;
  };
  let index = 0;
  for (const part of parts) {
    if (typeof part === 'bigint') store(index++, part);
    else {
      let value = 0n;
      let shift = 0n;
      for (const byte of part) {
        value |= BigInt(byte & 0x7f) << shift;
        shift += 7n;
        if (byte >= 0x80 && shift < 70n) continue;
        store(index++, value);
        value = 0n;
        shift = 0n;
      }
    }
  }
  return data;
}

/** Single values may be infinite: bounds of Clip, fillings of Pad. */
function checkFinite({ data }: HostTensor<'float32'>, tensor: FileTensor, label: string): void {
  for (let index = 0; index < data.length; index++) {
    const value = data[index]!;
    if (value - value === 0 || (data.length === 1 && !Number.isNaN(value))) continue;
    throw invalidFile(label, `${tensorLabel(tensor)} holds ${value} where finite numbers are expected`);
  }
}
