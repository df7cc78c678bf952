/** TensorProto messages; see read.ts. */
import type { FileTensor } from './onnx-file.ts';
import {
  bytesOf,
  fixedBytesOf,
  integerOf,
  pushIntegers,
  readFields,
  safeInteger,
  textOf,
  WireError,
} from './wire.ts';

const maxRank = 16;
const maxExternalKeys = 16;
/** Numbers are packed since protobuf 3; what is not comes one by one and is short. */
const maxDataFields = 2 ** 20;

/** @throws WireError */
export function decodeTensor(bytes: Uint8Array): FileTensor {
  let name = '';
  let elementType = 0;
  let location = 0;
  let rawData: Uint8Array | undefined;
  const bigDims: bigint[] = [];
  const floatData: Uint8Array[] = [];
  const doubleData: Uint8Array[] = [];
  const integerData: (Uint8Array | bigint)[] = [];
  const external = new Map<string, string>();
  for (const field of readFields(bytes)) {
    if (field.number === 1) pushIntegers(field, bigDims, maxRank);
    else if (field.number === 2) elementType = integerOf(field);
    else if (field.number === 3)
      throw new WireError('it holds a tensor in segments, which are not supported');
    else if (field.number === 4) floatData.push(fixedBytesOf(field, 4));
    else if (field.number === 5 || field.number === 7 || field.number === 11) {
      integerData.push(field.kind === 'varint' ? field.value : bytesOf(field));
    } else if (field.number === 8) name = textOf(field);
    else if (field.number === 9) rawData = bytesOf(field);
    else if (field.number === 10) doubleData.push(fixedBytesOf(field, 8));
    else if (field.number === 13) addEntry(external, bytesOf(field));
    else if (field.number === 14) location = integerOf(field);
    if (Math.max(floatData.length, doubleData.length, integerData.length) > maxDataFields) {
      throw new WireError(`the tensor "${name}" holds its numbers unpacked`);
    }
  }
  const dims = bigDims.map(safeInteger);
  if (dims.some((size) => size < 0)) {
    throw new WireError(`the tensor "${name}" has a negative size in its shape [${dims.join(', ')}]`);
  }
  return {
    name,
    elementType,
    dims,
    rawData,
    floatData,
    doubleData,
    integerData,
    external: location === 1 ? external : undefined,
  };
}

function addEntry(entries: Map<string, string>, bytes: Uint8Array): void {
  let key = '';
  let value = '';
  for (const field of readFields(bytes)) {
    if (field.number === 1) key = textOf(field);
    else if (field.number === 2) value = textOf(field);
  }
  if (entries.size >= maxExternalKeys) throw new WireError('a tensor has too many external_data entries');
  entries.set(key, value);
}
