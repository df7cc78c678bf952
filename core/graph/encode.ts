/** Graphs as ONNX protobuf bytes. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto */
// The package is CommonJS without names that Node could see: its default export holds them.
import onnxProto, { type onnx } from 'onnx-proto';
import type { Tensor } from '../shared/tensor.ts';
import { type Attribute, castTypeCodes, type Graph, type GraphNode, type ValueType } from './graph.ts';

export const irVersion = 10;
export const opsetVersion = 20;
const attributeTypes = onnxProto.onnx.AttributeProto.AttributeType;

/** Little-endian bytes, as `raw_data` wants them (and as every machine that Node runs on holds them). */
function encodeTensor(name: string, tensor: Tensor): onnx.ITensorProto {
  const { buffer, byteOffset, byteLength } = tensor.data;
  return {
    name,
    dims: [...tensor.dims],
    dataType: castTypeCodes[tensor.dtype],
    rawData: new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength),
  };
}

function encodeAttribute(name: string, value: Attribute): onnx.IAttributeProto {
  if (typeof value === 'number') return { name, type: attributeTypes.INT, i: value };
  if (typeof value === 'string') return { name, type: attributeTypes.STRING, s: Buffer.from(value) };
  if (Array.isArray(value)) {
    return value.length > 0 && typeof value[0] === 'string'
      ? { name, type: attributeTypes.STRINGS, strings: value.map((item) => Buffer.from(String(item))) }
      : { name, type: attributeTypes.INTS, ints: value.map(Number) };
  }
  if ('float' in value) return { name, type: attributeTypes.FLOAT, f: value.float };
  return { name, type: attributeTypes.TENSOR, t: encodeTensor('', value as Tensor) };
}

function encodeNode(node: GraphNode): onnx.INodeProto {
  return {
    opType: node.op,
    ...(node.domain === undefined ? {} : { domain: node.domain }),
    name: node.name,
    input: [...node.inputs],
    output: [...node.outputs],
    attribute: Object.entries(node.attributes).map(([name, value]) => encodeAttribute(name, value)),
  };
}

function encodeValue(name: string, type: ValueType): onnx.IValueInfoProto {
  const shape = { dim: type.dims.map((dimValue) => ({ dimValue })) };
  return { name, type: { tensorType: { elemType: castTypeCodes[type.dtype], shape } } };
}

/** Operators of this domain are ONNX Runtime's own; everything else is standard ONNX. */
const contribDomain = 'com.microsoft';

/** Constants from this size on are left out of the model's bytes by {@link encodeOnnxModelApart}. */
const apartFromBytes = 65_536;

/** An ONNX model (IR version 10, opset 20) with the shapes of all values written in. */
export function encodeOnnxModel(graph: Graph): Uint8Array {
  return encodeModel(graph, (name, tensor) => encodeTensor(name, tensor));
}

/** A model whose large constants are "files" that exist in memory only. */
export interface ModelWithData {
  model: Uint8Array;
  /** The constants' own bytes, not copies of them; a runtime may ask for them until it has loaded the model. */
  externalData: { path: string; data: Uint8Array }[];
}

/** {@link encodeOnnxModel} without copying weights: a model of a gigabyte costs no second one. */
export function encodeOnnxModelApart(graph: Graph): ModelWithData {
  const externalData: ModelWithData['externalData'] = [];
  const model = encodeModel(graph, (name, tensor) => {
    const { buffer, byteOffset, byteLength } = tensor.data;
    if (byteLength < apartFromBytes) return encodeTensor(name, tensor);
    const path = `constant-${externalData.length}`;
    externalData.push({ path, data: new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength) });
    return {
      name,
      dims: [...tensor.dims],
      dataType: castTypeCodes[tensor.dtype],
      dataLocation: onnxProto.onnx.TensorProto.DataLocation.EXTERNAL,
      externalData: [
        { key: 'location', value: path },
        { key: 'offset', value: '0' },
        { key: 'length', value: String(byteLength) },
      ],
    };
  });
  return { model, externalData };
}

function encodeModel(
  graph: Graph,
  encodeInitializer: (name: string, tensor: Tensor) => onnx.ITensorProto,
): Uint8Array {
  const value = (name: string) => encodeValue(name, graph.types.get(name)!);
  const ends = new Set(['', ...graph.inputs, ...graph.outputs, ...graph.initializers.keys()]);
  const inner = graph.nodes.flatMap((node) => node.outputs).filter((name) => !ends.has(name));
  const isStandard = graph.nodes.every(({ domain }) => domain === undefined);
  return onnxProto.onnx.ModelProto.encode({
    irVersion,
    producerName: 'anneal',
    opsetImport: [
      { domain: '', version: opsetVersion },
      ...(isStandard ? [] : [{ domain: contribDomain, version: 1 }]),
    ],
    graph: {
      name: 'graph',
      input: graph.inputs.map(value),
      output: graph.outputs.map(value),
      valueInfo: inner.map(value),
      initializer: [...graph.initializers].map(([name, tensor]) => encodeInitializer(name, tensor)),
      node: graph.nodes.map(encodeNode),
    },
  }).finish();
}
