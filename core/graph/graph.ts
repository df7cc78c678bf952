/**
 * A computation graph in the words of ONNX (opset 20), with static shapes.
 * Source: https://onnx.ai/onnx/repo-docs/IR.html
 */
import type { DataType, Tensor } from '../shared/tensor.ts';

/** TensorProto.DataType of ONNX, as `Cast` takes it. */
export const castTypeCodes: Record<DataType, number> = { float32: 1, int64: 7, bool: 9 };

export type Attribute =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | Tensor
  | { readonly float: number };

export interface ValueType {
  readonly dtype: DataType;
  readonly dims: readonly number[];
}

/** One operator. An absent optional input is the empty string. Numbers in `attributes` are integers; floats are `{ float }`. */
export interface GraphNode {
  readonly op: string;
  /** Where the operator is defined; absent for ONNX's own. */
  readonly domain?: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** Nodes are in topological order. Every value has a type. */
export interface Graph {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly nodes: readonly GraphNode[];
  readonly initializers: ReadonlyMap<string, Tensor>;
  readonly types: ReadonlyMap<string, ValueType>;
}
