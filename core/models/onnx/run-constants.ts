/**
 * Nodes whose inputs are all known, computed by ONNX Runtime itself: weights that a file standardises, position embeddings that it
 * interpolates, masks that it draws. What shapes are made of is computed by fold-constants.ts, for every batch size.
 */
import { createHash } from 'node:crypto';
import onnxProto, { type onnx } from 'onnx-proto';
import { elementCount } from '../../shared/tensor.ts';
import { NodeProblem } from './attributes.ts';
import { fromNumbers, type HostTensor, type HostType, hostTensor } from './host-tensor.ts';
import type { FileAttribute, FileNode } from './onnx-file.ts';
import { readTensor } from './tensors.ts';

/** A node that could be computed, and what it was given. */
export interface ConstantNode {
  readonly node: FileNode;
  readonly inputs: readonly (HostTensor | undefined)[];
  readonly opset: number;
}

/** Results, or why there are none, by {@link constantKey}. */
export type ConstantResults = Map<string, readonly HostTensor[] | NodeProblem>;

/** Values of all inputs and outputs of one node; more is nothing that a network is made of. */
const mostValues = 2 ** 27;
/** Not the same each time. */
const random = new Set([
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
  'Multinomial',
  'Bernoulli',
]);

/** Whether a node may be tried. */
export function isComputable({ op, domain, attributes }: FileNode): boolean {
  if ((domain !== '' && domain !== 'com.microsoft') || random.has(op)) return false;
  return ![...attributes.values()].some(({ kind }) => ['graph', 'other', 'reference'].includes(kind));
}

/** Tells apart what a node gives in writings of different batch sizes; what does not depend on these has its name alone. */
export function constantKey({ node, inputs }: ConstantNode): string {
  const hash = createHash('sha256');
  for (const tensor of inputs) {
    hash.update(JSON.stringify(tensor === undefined ? null : [tensor.dtype, tensor.dims]));
    if (tensor !== undefined) {
      const { buffer, byteOffset, byteLength } = tensor.data;
      hash.update(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength));
    }
  }
  return `${node.outputs[0] ?? ''} ${hash.digest('hex')}`;
}

const { AttributeProto, ModelProto } = onnxProto.onnx;
const codes: Readonly<Record<HostType, number>> = { float32: 1, int32: 6, int64: 7, bool: 9 };

/** @throws NodeProblem when ONNX Runtime cannot compute it, or it would be too large */
export async function runConstant({ node, inputs, opset }: ConstantNode): Promise<HostTensor[]> {
  if (inputs.reduce((sum, tensor) => sum + (tensor?.data.length ?? 0), 0) > mostValues) {
    throw new NodeProblem('unsupported', 'is computed from constants that are too large');
  }
  const ort = await import('onnxruntime-node');
  try {
    const session = await ort.InferenceSession.create(encode(node, inputs, opset), {
      executionProviders: ['cpu'],
      intraOpNumThreads: 1,
      graphOptimizationLevel: 'disabled',
      logSeverityLevel: 4,
    });
    try {
      for (const output of session.outputMetadata) {
        const shape = output.isTensor ? output.shape : [];
        const count = shape.reduce<number>(
          (product, size) => product * (typeof size === 'number' ? size : 1),
          1,
        );
        if (count > mostValues) throw new NodeProblem('invalid', 'makes a constant of an impossible shape');
      }
      const results = await session.run(feedsOf(ort, inputs));
      return node.outputs.flatMap((name, index) => (name === '' ? [] : [toHost(results[`o${index}`]!)]));
    } finally {
      await session.release();
    }
  } catch (error) {
    if (error instanceof NodeProblem) throw error;
    throw new NodeProblem('unsupported', 'cannot be computed from its constants by ONNX Runtime');
  }
}

const typeNames = { float32: 'float32', int32: 'int32', int64: 'int64', bool: 'bool' } as const;
/** Larger tensors are fed, which copies them once less; small ones may have to be constants: axes, sizes. */
const mostInside = 4096;
const isFed = (tensor: HostTensor | undefined): tensor is HostTensor =>
  tensor !== undefined && tensor.data.length > mostInside;

function feedsOf(
  ort: typeof import('onnxruntime-node'),
  inputs: readonly (HostTensor | undefined)[],
): Record<string, import('onnxruntime-node').Tensor> {
  return Object.fromEntries(
    inputs.flatMap((tensor, index) =>
      isFed(tensor)
        ? [[`i${index}`, new ort.Tensor(typeNames[tensor.dtype], tensor.data as never, [...tensor.dims])]]
        : [],
    ),
  );
}

function encode(node: FileNode, inputs: readonly (HostTensor | undefined)[], opset: number): Uint8Array {
  const present = inputs.flatMap((tensor, index) =>
    tensor === undefined ? [] : [{ tensor, name: `i${index}` }],
  );
  return ModelProto.encode({
    irVersion: 10,
    opsetImport: [
      { domain: '', version: opset },
      ...(node.domain === '' ? [] : [{ domain: node.domain, version: 1 }]),
    ],
    graph: {
      name: 'constant',
      input: present
        .filter(({ tensor }) => isFed(tensor))
        .map(({ tensor: { dtype, dims }, name }) => ({
          name,
          type: {
            tensorType: { elemType: codes[dtype], shape: { dim: dims.map((dimValue) => ({ dimValue })) } },
          },
        })),
      initializer: present
        .filter(({ tensor }) => !isFed(tensor))
        .map(({ tensor: { dtype, dims, data }, name }) => ({
          name,
          dims: [...dims],
          dataType: codes[dtype],
          rawData: new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength),
        })),
      output: node.outputs.flatMap((name, index) => (name === '' ? [] : [{ name: `o${index}` }])),
      node: [
        {
          opType: node.op,
          domain: node.domain,
          input: inputs.map((tensor, index) => (tensor === undefined ? '' : `i${index}`)),
          output: node.outputs.map((name, index) => (name === '' ? '' : `o${index}`)),
          attribute: [...node.attributes].map(([name, attribute]) => encodeAttribute(name, attribute)),
        },
      ],
    },
  }).finish();
}

function encodeAttribute(name: string, attribute: FileAttribute): onnx.IAttributeProto {
  const types = AttributeProto.AttributeType;
  switch (attribute.kind) {
    case 'int':
      return { name, type: types.INT, i: Number(attribute.value) };
    case 'float':
      return { name, type: types.FLOAT, f: attribute.value };
    case 'string':
      return { name, type: types.STRING, s: Buffer.from(attribute.value) };
    case 'ints':
      return { name, type: types.INTS, ints: attribute.value.map(Number) };
    case 'floats':
      return { name, type: types.FLOATS, floats: [...attribute.value] };
    case 'strings':
      return { name, type: types.STRINGS, strings: attribute.value.map((item) => Buffer.from(item)) };
    case 'tensor': {
      const { dtype, dims, data } = readTensor(attribute.value, 'the file');
      const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      return { name, type: types.TENSOR, t: { dims: [...dims], dataType: codes[dtype], rawData } };
    }
    default:
      throw new NodeProblem('unsupported', `has an attribute "${name}" that is not supported`);
  }
}

interface RuntimeTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

function toHost({ type, dims, data }: RuntimeTensor): HostTensor {
  const count = elementCount(dims);
  if (type === 'float32') return hostTensor('float32', dims, Float32Array.from(data as Float32Array));
  if (type === 'int64') return hostTensor('int64', dims, BigInt64Array.from(data as BigInt64Array));
  if (type === 'bool') return hostTensor('bool', dims, Uint8Array.from(data as Uint8Array));
  if (['int32', 'int16', 'int8', 'uint8', 'uint16'].includes(type)) {
    return fromNumbers('int32', dims, data as Int32Array);
  }
  if (type === 'float64') return fromNumbers('float32', dims, data as Float64Array);
  throw new NodeProblem(
    'unsupported',
    `gives ${count} constants of the type ${type}, which is not supported`,
  );
}
