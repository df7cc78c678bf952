/** The form of a composite, and what composites share. */
import { AppError } from '../../shared/errors.ts';
import type { Attributes } from '../attributes.ts';
import type { OperatorBuilder } from '../operator-builder.ts';

export interface CompositeRequest {
  readonly builder: OperatorBuilder;
  readonly op: string;
  /** Value names; '' for an absent optional input. */
  readonly inputs: readonly string[];
  readonly attributes: Attributes;
  readonly outputCount: number;
}

/** Appends nodes and returns the names of the outputs. */
export type CompositeRule = (request: CompositeRequest) => string[];

/** The name of a required input. @throws AppError SHAPE_MISMATCH */
export function inputName({ op, inputs }: CompositeRequest, index: number): string {
  const name = inputs[index] ?? '';
  if (name === '') throw new AppError('SHAPE_MISMATCH', `${op} has no input ${index}.`);
  return name;
}

/** The name of an optional input, or undefined. */
export function optionalName({ inputs }: CompositeRequest, index: number): string | undefined {
  return inputs[index] || undefined;
}

/** Numbers of a constant input, or undefined when it is absent or empty. @throws AppError OPERATOR_UNSUPPORTED */
export function constantNumbers(request: CompositeRequest, index: number): number[] | undefined {
  const name = optionalName(request, index);
  if (name === undefined) return undefined;
  const tensor = request.builder.constantOf(name);
  if (tensor === undefined) throw unsupported(request, `needs constant numbers as input ${index}`);
  return tensor.data.length === 0 ? undefined : Array.from(tensor.data, Number);
}

export function unsupported({ op }: CompositeRequest, reason: string): AppError {
  return new AppError('OPERATOR_UNSUPPORTED', `${op} ${reason}.`);
}

export function unfit({ op, builder, inputs }: CompositeRequest, reason: string): AppError {
  const shapes = inputs.map((name) => (name === '' ? 'none' : `[${builder.dimsOf(name).join(', ')}]`));
  return new AppError('SHAPE_MISMATCH', `${op} cannot take shapes ${shapes.join(' and ')}: ${reason}.`);
}
