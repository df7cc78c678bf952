/** Sums, means and norms over axes. */
import * as tf from '@tensorflow/tfjs';
import { integerOf, integersOf } from '../../../graph/attributes.ts';
import { channelsLast, placeInLast, plain } from '../value.ts';
import {
  integersAt,
  type NodeRequest,
  type Operator,
  type OperatorTable,
  rankOf,
  resolved,
} from './kernel.ts';

type Reduce = (x: tf.Tensor, axes: number[], keepDims: boolean) => tf.Tensor;

/** Axes stand in input 1 since opset 13 or 18, in an attribute before; all of them when in neither. */
function reducedAxes(request: NodeRequest): number[] {
  const rank = rankOf(request);
  const given = integersAt(request, 1) ?? integersOf(request.attributes, 'axes', []);
  const none = given.length === 0 && integerOf(request.attributes, 'noop_with_empty_axes', 0) !== 0;
  const all = Array.from({ length: rank }, (_, axis) => axis);
  return given.length === 0 && !none ? all : given.map((axis) => resolved(axis, rank));
}

function reduction(reduce: Reduce): Operator {
  return (request) => {
    const axes = reducedAxes(request);
    const keepDims = integerOf(request.attributes, 'keepdims', 1) !== 0;
    // What remains has one axis at most, so its order is the same in both arrangements.
    const orderless = rankOf(request) - axes.length <= 1;
    return ([x]) => {
      if (axes.length === 0)
        return [plain(reduce(x!.plain().reshape([...x!.dims, 1]), [x!.dims.length], false))];
      if (!x!.hasChannelsLast() || !(keepDims || orderless))
        return [plain(reduce(x!.plain(), axes, keepDims))];
      const places = axes.map((axis) => placeInLast[axis]!);
      const y = reduce(x!.channelsLast(), places, keepDims);
      return [keepDims ? channelsLast(y) : plain(y)];
    };
  };
}

const sumOfSquares: Reduce = (x, axes, keepDims) => tf.sum(tf.square(x), axes, keepDims);
const norm: Reduce = (x, axes, keepDims) => tf.sqrt(sumOfSquares(x, axes, keepDims));
const sumOfSizes: Reduce = (x, axes, keepDims) => tf.sum(tf.abs(x), axes, keepDims);

/** x divided by its norm along one axis; zeros where the norm is 0. */
const lpNormalization: Operator = (request) => {
  const axis = resolved(integerOf(request.attributes, 'axis', -1), rankOf(request));
  const measure = integerOf(request.attributes, 'p', 2) === 1 ? sumOfSizes : norm;
  return ([x]) => {
    const along = x!.hasChannelsLast() ? placeInLast[axis]! : axis;
    const value = x!.hasChannelsLast() ? x!.channelsLast() : x!.plain();
    const y = tf.divNoNan(value, measure(value, [along], true));
    return [x!.hasChannelsLast() ? channelsLast(y) : plain(y)];
  };
};

export const reductionOperators: OperatorTable = {
  ReduceSum: reduction((x, axes, keep) => tf.sum(x, axes, keep)),
  ReduceMean: reduction((x, axes, keep) => tf.mean(x, axes, keep)),
  ReduceMax: reduction((x, axes, keep) => tf.max(x, axes, keep)),
  ReduceMin: reduction((x, axes, keep) => tf.min(x, axes, keep)),
  ReduceL2: reduction(norm),
  ReduceLogSumExp: reduction((x, axes, keep) => tf.logSumExp(x, axes, keep)),
  LpNormalization: lpNormalization,
};
