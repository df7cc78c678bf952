/**
 * ONNX files, decoded with limits.
 * Source of the field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */
import { constants, open } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../../shared/errors.ts';
import type {
  FileAttribute,
  FileFunction,
  FileGraph,
  FileNode,
  FileTensor,
  FileValue,
  OnnxFile,
} from './onnx-file.ts';
import { functionKey } from './onnx-file.ts';
import { decodeTensor } from './read-tensor.ts';
import {
  bytesOf,
  decodeText,
  fixedBytesOf,
  floatOf,
  int64Of,
  integerOf,
  pushIntegers,
  readFields,
  textOf,
  WireError,
  type WireField,
} from './wire.ts';

/** Protobuf's own limit of a message. */
const maxFileBytes = 2 ** 31 - 1;
const maxNodes = 100_000;
const maxInitializers = 100_000;
const maxValues = 4096;
const maxNodeLinks = 4096;
const maxAttributes = 64;
const maxAttributeValues = 65_536;
const maxFunctions = 4096;
const maxRank = 16;
/** Graphs inside of each other. */
const maxDepth = 8;

/**
 * An error about the file itself.
 * @param what goes on after "is not a usable ONNX file: "
 * @param options `action` where another copy of the file would be no better
 */
export function invalidFile(
  label: string,
  what: string,
  options: { action?: string; cause?: unknown } = {},
): AppError {
  return new AppError('MODEL_FILE_INVALID', `${label} is not a usable ONNX file: ${what}.`, options);
}

/**
 * Reads and decodes a file; tensors stay views of its bytes.
 * @throws AppError MODEL_FILE_INVALID
 */
export async function readOnnxFile(file: string): Promise<OnnxFile> {
  return decodeOnnx(await readBytes(file), path.basename(file));
}

async function readBytes(file: string): Promise<Uint8Array> {
  const label = path.basename(file);
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    // A pipe would block for ever; without blocking it is opened and refused.
    handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw invalidFile(label, 'it cannot be opened', { cause });
  }
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw invalidFile(label, 'it is not a file');
    if (status.size > maxFileBytes) {
      throw invalidFile(label, `it has ${status.size} bytes; at most ${maxFileBytes} are possible`);
    }
    return await handle.readFile();
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw invalidFile(label, 'it cannot be read', { cause });
  } finally {
    await handle.close();
  }
}

/** @param label name for messages @throws AppError MODEL_FILE_INVALID */
function decodeOnnx(bytes: Uint8Array, label: string): OnnxFile {
  try {
    return decodeModel(bytes, label);
  } catch (error) {
    if (error instanceof WireError) throw invalidFile(label, error.message, { cause: error });
    throw error;
  }
}

function decodeModel(bytes: Uint8Array, label: string): OnnxFile {
  let producer = '';
  let version = '';
  let graph: FileGraph | undefined;
  const opsets = new Map<string, number>();
  const functions = new Map<string, FileFunction>();
  for (const field of readFields(bytes)) {
    if (field.number === 2) producer = textOf(field);
    else if (field.number === 3) version = textOf(field);
    else if (field.number === 7) {
      if (graph !== undefined) throw new WireError('it holds two graphs');
      graph = decodeGraph(bytesOf(field));
    } else if (field.number === 8) addOpset(opsets, bytesOf(field));
    else if (field.number === 25) {
      const decoded = decodeFunction(bytesOf(field));
      functions.set(functionKey(decoded.domain, decoded.name), decoded);
      if (functions.size > maxFunctions) throw new WireError(`it holds more than ${maxFunctions} functions`);
    }
  }
  if (graph === undefined) throw new WireError('it holds no graph');
  return { label, producer: `${producer} ${version}`.trim(), opsets, graph, functions };
}

function addOpset(opsets: Map<string, number>, bytes: Uint8Array): void {
  let domain = '';
  let version = 0;
  for (const field of readFields(bytes)) {
    if (field.number === 1) domain = normalDomain(textOf(field));
    else if (field.number === 2) version = integerOf(field);
  }
  if (opsets.size >= maxFunctions) throw new WireError('it names too many operator sets');
  opsets.set(domain, version);
}

/** `ai.onnx` is a second name of the default domain. */
function normalDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

function decodeGraph(bytes: Uint8Array, depth = 0): FileGraph {
  if (depth > maxDepth)
    throw new WireError(`it holds graphs inside of each other, more than ${maxDepth} deep`);
  const nodes: FileNode[] = [];
  const initializers = new Map<string, FileTensor>();
  const inputs: FileValue[] = [];
  const outputs: FileValue[] = [];
  for (const field of readFields(bytes)) {
    if (field.number === 1) pushLimited(nodes, decodeNode(bytesOf(field), depth), maxNodes, 'nodes');
    else if (field.number === 5) {
      const tensor = decodeTensor(bytesOf(field));
      if (tensor.name === '') throw new WireError('an initializer has no name');
      if (initializers.has(tensor.name)) {
        throw new WireError(`the name "${tensor.name}" is given to two initializers`);
      }
      if (initializers.size >= maxInitializers) throw new WireError('it holds too many initializers');
      initializers.set(tensor.name, tensor);
    } else if (field.number === 11)
      pushLimited(inputs, decodeValue(bytesOf(field)), maxInitializers, 'inputs');
    else if (field.number === 12) pushLimited(outputs, decodeValue(bytesOf(field)), maxValues, 'outputs');
    else if (field.number === 15)
      throw new WireError('it holds sparse initializers, which are not supported');
  }
  return { nodes, initializers, inputs, outputs };
}

function pushLimited<T>(list: T[], item: T, limit: number, what: string): void {
  if (list.length >= limit) throw new WireError(`it holds more than ${limit} ${what}`);
  list.push(item);
}

function decodeNode(bytes: Uint8Array, depth = 0): FileNode {
  let name = '';
  let op = '';
  let domain = '';
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, FileAttribute>();
  for (const field of readFields(bytes)) {
    if (field.number === 1) pushLimited(inputs, textOf(field), maxNodeLinks, 'inputs of one node');
    else if (field.number === 2) pushLimited(outputs, textOf(field), maxNodeLinks, 'outputs of one node');
    else if (field.number === 3) name = textOf(field);
    else if (field.number === 4) op = textOf(field);
    else if (field.number === 5) addAttribute(attributes, bytesOf(field), depth);
    else if (field.number === 7) domain = normalDomain(textOf(field));
  }
  if (op === '') throw new WireError(`the node "${name}" names no operator`);
  return { name, op, domain, inputs, outputs, attributes };
}

const attributeKinds = new Map<number, FileAttribute['kind']>([
  [1, 'float'],
  [2, 'int'],
  [3, 'string'],
  [4, 'tensor'],
  [5, 'graph'],
  [6, 'floats'],
  [7, 'ints'],
  [8, 'strings'],
]);

function addAttribute(attributes: Map<string, FileAttribute>, bytes: Uint8Array, depth = 0): void {
  const { name, attribute } = decodeAttribute(bytes, depth);
  if (attributes.has(name)) throw new WireError(`the attribute "${name}" is given twice to one node`);
  if (attributes.size >= maxAttributes) throw new WireError('a node has too many attributes');
  attributes.set(name, attribute);
}

function decodeAttribute(bytes: Uint8Array, depth: number): { name: string; attribute: FileAttribute } {
  let name = '';
  let type = 0;
  let reference = '';
  let float = 0;
  let int = 0n;
  let text: Uint8Array | undefined;
  let tensor: FileTensor | undefined;
  let graph: FileGraph | undefined;
  const floats: number[] = [];
  const ints: bigint[] = [];
  const strings: string[] = [];
  for (const field of readFields(bytes)) {
    if (field.number === 1) name = textOf(field);
    else if (field.number === 2) float = floatOf(field);
    else if (field.number === 3) int = int64Of(field);
    else if (field.number === 4) text = bytesOf(field);
    else if (field.number === 5) tensor = decodeTensor(bytesOf(field));
    else if (field.number === 6) graph = decodeGraph(bytesOf(field), depth + 1);
    else if (field.number === 7) pushFloats(field, floats);
    else if (field.number === 8) pushIntegers(field, ints, maxAttributeValues);
    else if (field.number === 9)
      pushLimited(strings, textOf(field), maxAttributeValues, 'strings of one attribute');
    else if (field.number === 20) type = integerOf(field);
    else if (field.number === 21) reference = textOf(field);
  }
  if (reference !== '') return { name, attribute: { kind: 'reference', value: reference } };
  switch (attributeKinds.get(type)) {
    case 'float':
      return { name, attribute: { kind: 'float', value: float } };
    case 'int':
      return { name, attribute: { kind: 'int', value: int } };
    case 'string':
      return { name, attribute: { kind: 'string', value: decodeText(text ?? new Uint8Array()) } };
    case 'tensor':
      if (tensor === undefined) throw new WireError(`the attribute "${name}" has no tensor`);
      return { name, attribute: { kind: 'tensor', value: tensor } };
    case 'graph':
      if (graph === undefined) throw new WireError(`the attribute "${name}" has no graph`);
      return { name, attribute: { kind: 'graph', value: graph } };
    case 'floats':
      return { name, attribute: { kind: 'floats', value: floats } };
    case 'ints':
      return { name, attribute: { kind: 'ints', value: ints } };
    case 'strings':
      return { name, attribute: { kind: 'strings', value: strings } };
    default:
      return { name, attribute: { kind: 'other' } };
  }
}

function pushFloats(field: WireField, into: number[]): void {
  const bytes = fixedBytesOf(field, 4);
  if (into.length + bytes.length / 4 > maxAttributeValues)
    throw new WireError('an attribute has too many numbers');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset < bytes.length; offset += 4) into.push(view.getFloat32(offset, true));
}

/** A value's type lies three messages deep: TypeProto, its tensor, the shape's dimensions. */
function decodeValue(bytes: Uint8Array): FileValue {
  let name = '';
  let elementType = 0;
  let dims: (number | string)[] | undefined;
  for (const field of readFields(bytes)) {
    if (field.number === 1) name = textOf(field);
    if (field.number !== 2) continue;
    for (const kind of readFields(bytesOf(field))) {
      if (kind.number !== 1) continue;
      for (const part of readFields(bytesOf(kind))) {
        if (part.number === 1) elementType = integerOf(part);
        else if (part.number === 2) dims = decodeShape(bytesOf(part));
      }
    }
  }
  if (name === '') throw new WireError('an input or output has no name');
  return { name, elementType, dims };
}

function decodeShape(bytes: Uint8Array): (number | string)[] {
  const dims: (number | string)[] = [];
  for (const field of readFields(bytes)) {
    if (field.number !== 1) continue;
    let size: number | string = '?';
    for (const part of readFields(bytesOf(field))) {
      if (part.number === 1) size = integerOf(part);
      else if (part.number === 2) size = textOf(part) || '?';
    }
    // Some exporters write an open size as -1 or 0.
    pushLimited(dims, typeof size === 'number' && size <= 0 ? '?' : size, maxRank, 'axes of one shape');
  }
  return dims;
}

function decodeFunction(bytes: Uint8Array): FileFunction {
  let name = '';
  let domain = '';
  const inputs: string[] = [];
  const outputs: string[] = [];
  const defaults = new Map<string, FileAttribute>();
  const nodes: FileNode[] = [];
  const opsets = new Map<string, number>();
  for (const field of readFields(bytes)) {
    if (field.number === 1) name = textOf(field);
    else if (field.number === 4) pushLimited(inputs, textOf(field), maxNodeLinks, 'inputs of one function');
    else if (field.number === 5) pushLimited(outputs, textOf(field), maxNodeLinks, 'outputs of one function');
    else if (field.number === 7) pushLimited(nodes, decodeNode(bytesOf(field)), maxNodes, 'nodes');
    else if (field.number === 9) addOpset(opsets, bytesOf(field));
    else if (field.number === 10) domain = normalDomain(textOf(field));
    else if (field.number === 11) addAttribute(defaults, bytesOf(field));
  }
  return { name, domain, inputs, outputs, defaults, nodes, opsets };
}
