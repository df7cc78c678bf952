/** Types of reductions. */
import { integerOf } from './attributes.ts';
import { constantIntegers, type InferenceRule, inputOf, resolveAxis } from './infer-support.ts';

/** An empty list of axes means all of them, or none with `noop_with_empty_axes`. */
const reduction: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const given = constantIntegers(request, 1) ?? [];
  const none = given.length === 0 && integerOf(request.attributes, 'noop_with_empty_axes', 0) !== 0;
  const axes = given.length > 0 || none ? given : [...dims.keys()];
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
