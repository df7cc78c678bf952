/** The form of an operator (its types, its gradient or what it is made of, side by side) and what operators share. */
import { AppError } from '../../shared/errors.ts';
import type { Attributes } from '../attributes.ts';
import type { GraphNode, ValueType } from '../graph.ts';
import type { OperatorBuilder } from '../operator-builder.ts';

/** An operator that is about to be appended. */
export interface OperatorRequest {
  readonly builder: OperatorBuilder;
  readonly op: string;
  /** The node's name; absent while the operator may still become others. */
  readonly name?: string;
  /** Value names; '' for an absent optional input. */
  readonly inputs: readonly string[];
  readonly attributes: Attributes;
  readonly outputCount: number;
}

export interface GradientRequest {
  readonly builder: OperatorBuilder;
  readonly node: GraphNode;
  /** d loss / d output 0, with the output's shape. */
  readonly gradient: string;
  /** d loss / d output i; undefined where an output does not reach the loss. */
  readonly gradients: readonly (string | undefined)[];
  /** Inputs that lead to a trainable; gradients of the others need not be built. */
  readonly needed: readonly boolean[];
}

/** Types of the outputs. @throws AppError SHAPE_MISMATCH when the inputs do not fit */
export type InferenceRule = (request: OperatorRequest) => ValueType[];

/**
 * Appends nodes and returns one gradient per input, undefined where none is needed. A gradient may have the shape
 * to which its input was broadcast: `appendGradients` sums it down.
 */
export type GradientRule = (request: GradientRequest) => (string | undefined)[];

/** Appends other operators and returns the names of the outputs. */
export type Composition = (request: OperatorRequest) => string[];

/**
 * Where a gradient goes: `both` to the data and to the weights of the operator (or to every float operand),
 * `input` to its one float input only, `none` nowhere: training through it is refused.
 */
export type Trainable = 'both' | 'input' | 'none';

interface AnyOperator {
  readonly trainable: Trainable;
  /**
   * The attributes that count when a model file's node is taken over as it is. Absent where the operator changed
   * between opset 11 and 22: `core/models/onnx` has a rule of its own for it.
   */
  readonly fileAttributes?: readonly string[];
}

/** A node that engines compute. */
interface NodeOperator extends AnyOperator {
  readonly infer: InferenceRule;
  readonly gradient?: GradientRule;
  /** Forms of it that become other operators; undefined leaves a form as it is. */
  readonly compose?: (request: OperatorRequest) => string[] | undefined;
}

interface FrozenOperator extends NodeOperator {
  readonly trainable: 'none';
  readonly gradient?: never;
}

interface TrainedOperator extends NodeOperator {
  readonly trainable: 'both' | 'input';
  readonly gradient: GradientRule;
}

/**
 * Always written as other operators, so that no engine ever sees it. It never folds weights: what a file calls a
 * weight stays a value of its own.
 */
interface Composite extends AnyOperator {
  readonly compose: Composition;
  readonly infer?: never;
  readonly gradient?: never;
}

export type Operator = FrozenOperator | TrainedOperator | Composite;
export type OperatorTable = Readonly<Record<string, Operator>>;

const titleOf = ({ op, name }: OperatorRequest) => (name === undefined ? op : `${op} (${name})`);

export function mismatch(request: OperatorRequest, reason: string): AppError {
  const { builder, inputs } = request;
  const shapes = inputs.map((input) => (input === '' ? 'none' : `[${builder.dimsOf(input).join(', ')}]`));
  return new AppError(
    'SHAPE_MISMATCH',
    `${titleOf(request)} cannot take shapes ${shapes.join(' and ')}: ${reason}.`,
  );
}

/** @param reason goes on after the operator's name */
export function unsupported(request: OperatorRequest, reason: string): AppError {
  return new AppError('OPERATOR_UNSUPPORTED', `${titleOf(request)} ${reason}.`);
}

/** The name of a required input. @throws AppError SHAPE_MISMATCH */
export function inputName({ op, inputs }: OperatorRequest, index: number): string {
  const name = inputs[index] ?? '';
  if (name === '') throw new AppError('SHAPE_MISMATCH', `${op} has no input ${index}.`);
  return name;
}

/** The type of an input; undefined where it is absent. */
export function optionalInput({ builder, inputs }: OperatorRequest, index: number): ValueType | undefined {
  return inputs[index] ? builder.typeOf(inputs[index]) : undefined;
}

export function inputOf(request: OperatorRequest, index: number): ValueType {
  const type = optionalInput(request, index);
  if (type === undefined) throw mismatch(request, `input ${index} is missing`);
  return type;
}

/** {@link inputOf} that must be float32. */
export function floatInput(request: OperatorRequest, index: number): ValueType {
  const type = inputOf(request, index);
  if (type.dtype !== 'float32') throw mismatch(request, `input ${index} is ${type.dtype} instead of float32`);
  return type;
}

/** The numbers of an initializer; undefined for anything computed, fed or absent. */
export function knownNumbers(builder: OperatorBuilder, value: string | undefined): number[] | undefined {
  const tensor = value ? builder.constantOf(value) : undefined;
  return tensor && Array.from(tensor.data, Number);
}

/** Integers of a constant input (axes, shapes); undefined when the input is absent. */
export function constantIntegers(request: OperatorRequest, index: number): number[] | undefined {
  const type = optionalInput(request, index);
  if (type === undefined) return undefined;
  const numbers = type.dtype === 'int64' ? knownNumbers(request.builder, request.inputs[index]) : undefined;
  if (numbers === undefined) throw unsupported(request, `needs constant integers as input ${index}`);
  return numbers;
}

/** {@link constantIntegers} of an input that must be there. */
export function requiredIntegers(request: OperatorRequest, index: number): number[] {
  const values = constantIntegers(request, index);
  if (values === undefined) throw mismatch(request, `input ${index} is missing`);
  return values;
}

/** Numbers of a constant input, or undefined when it is absent or empty. @throws AppError OPERATOR_UNSUPPORTED */
export function constantNumbers(request: OperatorRequest, index: number): number[] | undefined {
  const name = request.inputs[index];
  if (!name) return undefined;
  const numbers = knownNumbers(request.builder, name);
  if (numbers === undefined) throw unsupported(request, `needs constant numbers as input ${index}`);
  return numbers.length === 0 ? undefined : numbers;
}

/** Turns a possibly negative axis into one in [0, rank). */
export function resolveAxis(request: OperatorRequest, axis: number, rank: number): number {
  const resolved = axis < 0 ? axis + rank : axis;
  if (resolved < 0 || resolved >= rank) throw mismatch(request, `axis ${axis} is outside rank ${rank}`);
  return resolved;
}

/** numpy's broadcast shape, or undefined when there is none. */
export function broadcastDims(a: readonly number[], b: readonly number[]): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const dims: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) return undefined;
    dims.push(left === 1 ? right : left);
  }
  return dims;
}
