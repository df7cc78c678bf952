/** Reductions of a function of their input. */
import { integerOf } from '../attributes.ts';
import { type CompositeRequest, constantNumbers, inputName } from './composite-rule.ts';

/** ReduceSum of `x` over the axes of the request. */
function summed({ builder, inputs, attributes }: CompositeRequest, x: string): string {
  return builder.append1('ReduceSum', [x, ...inputs.slice(1)], attributes);
}

export function reduceL1(request: CompositeRequest): string[] {
  return [summed(request, request.builder.abs(inputName(request, 0)))];
}

export function reduceSumSquare(request: CompositeRequest): string[] {
  const x = inputName(request, 0);
  return [summed(request, request.builder.mul(x, x))];
}

export function reduceLogSum(request: CompositeRequest): string[] {
  return [request.builder.log(summed(request, inputName(request, 0)))];
}

/** A reduction over no axes gives its input; without the attribute an empty list means all axes. */
export function emptyReduction(request: CompositeRequest): string[] | undefined {
  const { builder, attributes } = request;
  const noop = integerOf(attributes, 'noop_with_empty_axes', 0) !== 0;
  if (!noop || constantNumbers(request, 1) !== undefined) return undefined;
  return [builder.identity(inputName(request, 0))];
}
