/** The parts of an ONNX file that the import reads, in plain values. */

/** TensorProto.DataType by number; those that the import cannot read have a name for the message only. */
const elementTypeNames: Readonly<Record<number, string>> = {
  0: 'UNDEFINED',
  1: 'FLOAT',
  2: 'UINT8',
  3: 'INT8',
  4: 'UINT16',
  5: 'INT16',
  6: 'INT32',
  7: 'INT64',
  8: 'STRING',
  9: 'BOOL',
  10: 'FLOAT16',
  11: 'DOUBLE',
  12: 'UINT32',
  13: 'UINT64',
  14: 'COMPLEX64',
  15: 'COMPLEX128',
  16: 'BFLOAT16',
};

export function elementTypeName(type: number): string {
  return elementTypeNames[type] ?? `type ${type}`;
}

/** A tensor as the file has it. Its bytes are views of the file. */
export interface FileTensor {
  readonly name: string;
  readonly elementType: number;
  readonly dims: readonly number[];
  readonly rawData: Uint8Array | undefined;
  /** Little-endian bytes of float_data and double_data. */
  readonly floatData: readonly Uint8Array[];
  readonly doubleData: readonly Uint8Array[];
  /** int32_data, int64_data and uint64_data: packed varints, or a single number. */
  readonly integerData: readonly (Uint8Array | bigint)[];
  /** Key and value pairs (location, offset, length) when the bytes lie in another file. */
  readonly external: ReadonlyMap<string, string> | undefined;
}

export type FileAttribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: FileTensor }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  /** Inside a function: the caller's attribute of this name. */
  | { readonly kind: 'reference'; readonly value: string }
  /** A branch of an `If`, or the body of a loop. */
  | { readonly kind: 'graph'; readonly value: FileGraph }
  /** Sparse tensors, types, several graphs: nothing that the import can use. */
  | { readonly kind: 'other' };

export interface FileNode {
  readonly name: string;
  readonly op: string;
  /** '' for ONNX's own operators. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, FileAttribute>;
}

/** A graph input or output; `dims` is undefined when the file tells no shape. */
export interface FileValue {
  readonly name: string;
  readonly elementType: number;
  /** A number, or the symbol of an open size ('?' when it has none). */
  readonly dims: readonly (number | string)[] | undefined;
}

export interface FileGraph {
  readonly nodes: readonly FileNode[];
  readonly initializers: ReadonlyMap<string, FileTensor>;
  readonly inputs: readonly FileValue[];
  readonly outputs: readonly FileValue[];
}

export interface FileFunction {
  readonly name: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes with a default. */
  readonly defaults: ReadonlyMap<string, FileAttribute>;
  readonly nodes: readonly FileNode[];
  readonly opsets: ReadonlyMap<string, number>;
}

export interface OnnxFile {
  /** Name without its folder, for messages. */
  readonly label: string;
  readonly producer: string;
  /** Version by domain; ONNX's own is ''. */
  readonly opsets: ReadonlyMap<string, number>;
  readonly graph: FileGraph;
  readonly functions: ReadonlyMap<string, FileFunction>;
}

/** Key of a function in {@link OnnxFile.functions}. */
export function functionKey(domain: string, name: string): string {
  return `${domain}::${name}`;
}
