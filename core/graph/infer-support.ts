/** What the inference rules share. */
import { AppError } from '../shared/errors.ts';
import type { Tensor } from '../shared/tensor.ts';
import type { Attributes } from './attributes.ts';
import type { ValueType } from './graph.ts';

export interface InferenceRequest {
  readonly op: string;
  readonly name: string;
  /** Undefined where an optional input is absent. */
  readonly inputs: readonly (ValueType | undefined)[];
  /** The values of those inputs that are initializers. */
  readonly constants: readonly (Tensor | undefined)[];
  readonly attributes: Attributes;
  readonly outputCount: number;
}

export type InferenceRule = (request: InferenceRequest) => ValueType[];

export function mismatch(request: InferenceRequest, reason: string): AppError {
  const shapes = request.inputs.map((type) => (type === undefined ? 'none' : `[${type.dims.join(', ')}]`));
  return new AppError(
    'SHAPE_MISMATCH',
    `${request.op} (${request.name}) cannot take shapes ${shapes.join(' and ')}: ${reason}.`,
  );
}

export function inputOf(request: InferenceRequest, index: number): ValueType {
  const type = request.inputs[index];
  if (type === undefined) throw mismatch(request, `input ${index} is missing`);
  return type;
}

/** {@link inputOf} that must be float32. */
export function floatInput(request: InferenceRequest, index: number): ValueType {
  const type = inputOf(request, index);
  if (type.dtype !== 'float32') throw mismatch(request, `input ${index} is ${type.dtype} instead of float32`);
  return type;
}

/** Integers of a constant input (axes, shapes); undefined when the input is absent. */
export function constantIntegers(request: InferenceRequest, index: number): number[] | undefined {
  if (request.inputs[index] === undefined) return undefined;
  const tensor = request.constants[index];
  if (tensor === undefined || tensor.dtype !== 'int64') {
    throw new AppError(
      'OPERATOR_UNSUPPORTED',
      `${request.op} (${request.name}) needs constant integers as input ${index}.`,
    );
  }
  return Array.from(tensor.data, Number);
}

/** {@link constantIntegers} of an input that must be there. */
export function requiredIntegers(request: InferenceRequest, index: number): number[] {
  const values = constantIntegers(request, index);
  if (values === undefined) throw mismatch(request, `input ${index} is missing`);
  return values;
}

/** Turns a possibly negative axis into one in [0, rank). */
export function resolveAxis(request: InferenceRequest, axis: number, rank: number): number {
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
