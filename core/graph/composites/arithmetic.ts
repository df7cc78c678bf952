/** Operators of any number of operands, in pairs. */
import { type CompositeRequest, inputName } from './composite-rule.ts';

/** Sum times a factor; Mean divides by the count. */
export function sumOf(request: CompositeRequest, factor: number): string[] {
  const { builder, inputs } = request;
  inputName(request, 0);
  const sum = inputs.reduce((total, value) => builder.add(total, value));
  return [factor === 1 ? sum : builder.mul(sum, builder.scalar(factor))];
}

/** Min or Max of more or fewer than two operands. */
export function pairwise(request: CompositeRequest): string[] | undefined {
  const { builder, op, inputs } = request;
  if (inputs.length === 2) return undefined;
  inputName(request, 0);
  return [inputs.reduce((best, value) => builder.append1(op, [best, value]))];
}
