/** Types of reductions. */
import { integerOf } from './attributes.ts';
import { constantIntegers, type InferenceRule, inputOf, mismatch, resolveAxis } from './infer-support.ts';

/** An empty list of axes means all of them. */
const reduction: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const given = constantIntegers(request, 1) ?? [];
  if (given.length === 0 && integerOf(request.attributes, 'noop_with_empty_axes', 0) !== 0) {
    throw mismatch(request, 'a reduction over no axes is not supported');
  }
  const axes = given.length > 0 ? given : [...dims.keys()];
  const reduced = new Set(axes.map((axis) => resolveAxis(request, axis, dims.length)));
  const keep = integerOf(request.attributes, 'keepdims', 1) !== 0;
  const kept = dims.map((size, axis) => (reduced.has(axis) ? 1 : size));
  return [{ dtype, dims: keep ? kept : kept.filter((_, axis) => !reduced.has(axis)) }];
};

export const reductionTypes: Readonly<Record<string, InferenceRule>> = {
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceMin: reduction,
  ReduceL2: reduction,
  ReduceLogSumExp: reduction,
};
