/** The form of an operator of this engine, and what the operators share. */
import type * as tf from '@tensorflow/tfjs';
import type { GraphNode, ValueType } from '../../../graph/graph.ts';
import { AppError } from '../../../shared/errors.ts';
import type { Tensor } from '../../../shared/tensor.ts';
import { channelsLast, type Produced, plain, type Value } from '../value.ts';

/** What is known about a node before anything runs. */
export interface NodeRequest {
  readonly node: GraphNode;
  readonly attributes: GraphNode['attributes'];
  /** Undefined where an optional input is absent. */
  readonly inputs: readonly (ValueType | undefined)[];
  readonly outputs: readonly ValueType[];
  /** The value of an input that is an initializer. */
  constant(index: number): Tensor | undefined;
  /** A constant of the kernel's own, freed with the compiled graph. */
  keep(dims: readonly number[], upload: () => tf.Tensor): Value;
}

/**
 * Computes a node. Runs inside `tf.tidy`: what it leaves lying is freed, what it returns is not. Inputs come in
 * the order of the node without the absent ones at its end; an absent one in the middle is undefined.
 */
export type Kernel = (inputs: readonly Value[]) => Produced[];

/** Reads the attributes and constants of a node once. @throws AppError OPERATOR_UNSUPPORTED for a setting that it lacks */
export type Operator = (request: NodeRequest) => Kernel;

export type OperatorTable = Readonly<Record<string, Operator>>;

/** A kernel on tensors in the graph's order with one output. */
export function plainKernel(compute: (...inputs: tf.Tensor[]) => tf.Tensor): Kernel {
  return (inputs) => [plain(compute(...inputs.map((input) => input?.plain())))];
}

/**
 * A kernel that computes the same in either arrangement: each output value depends on the input values of the
 * same (broadcast) place. Stays channels-last when an image comes so.
 */
export function placewise(compute: (...inputs: tf.Tensor[]) => tf.Tensor): Kernel {
  return (inputs) => {
    const images = inputs.some((input) => input.hasChannelsLast());
    if (!images || inputs.some((input) => input.dims.length > 4)) return plainKernel(compute)(inputs);
    return [channelsLast(compute(...inputs.map((input) => input.channelsLast())))];
  };
}

/** @throws AppError OPERATOR_UNSUPPORTED */
export function unsupported({ node }: NodeRequest, reason: string): AppError {
  return new AppError(
    'OPERATOR_UNSUPPORTED',
    `TensorFlow cannot compute ${node.op} (${node.name}): ${reason}.`,
    { action: 'Train with the engine "onnxruntime", or choose a model without this operator.' },
  );
}

/** Integers of a constant input; undefined when it is absent. */
export function integersAt(request: NodeRequest, index: number): number[] | undefined {
  if (request.inputs[index] === undefined) return undefined;
  const tensor = request.constant(index);
  if (tensor?.dtype === 'int64') return Array.from(tensor.data as BigInt64Array, Number);
  throw unsupported(request, `input ${index} has to be constant integers`);
}

/** The one value of a constant input; undefined when it is absent or computed. */
export function numberAt(request: NodeRequest, index: number): number | undefined {
  const tensor = request.inputs[index] === undefined ? undefined : request.constant(index);
  return tensor?.data.length === 1 ? Number(tensor.data[0]) : undefined;
}

export function rankOf(request: NodeRequest, index = 0): number {
  return request.inputs[index]?.dims.length ?? 0;
}

export function resolved(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
