/** Matrix products. */
import * as tf from '@tensorflow/tfjs';
import { floatOf, integerOf } from '../../../graph/attributes.ts';
import { broadcastDims } from '../../../graph/operators/operator.ts';
import { elementCount, sameDims } from '../../../shared/tensor.ts';
import { type Operator, type OperatorTable, plainKernel } from './kernel.ts';

const scaledBy = (x: tf.Tensor, factor: number) => (factor === 1 ? x : tf.mul(x, factor));

interface ProductSettings {
  transA: boolean;
  transB: boolean;
  alpha: number;
}

/** Rows of any number of leading axes times one matrix are a single product. */
function product(a: tf.Tensor, b: tf.Tensor, { transA, transB, alpha }: ProductSettings): tf.Tensor {
  if (a.rank > 2 && b.rank === 2 && !transA) {
    const leading = a.shape.slice(0, -1);
    const rows = a.reshape([elementCount(leading), a.shape.at(-1)!]);
    const columns = transB ? b.shape[0]! : b.shape[1]!;
    return scaledBy(tf.matMul(rows, b, false, transB), alpha).reshape([...leading, columns]);
  }
  const [left, right] = expandBatches(a, b);
  return scaledBy(tf.matMul(left, right, transA, transB), alpha);
}

/** tfjs' WebAssembly product broadcasts a single matrix rightly, but not leading axes against each other. */
function expandBatches(a: tf.Tensor, b: tf.Tensor): [tf.Tensor, tf.Tensor] {
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  if (sameDims(batchA, batchB) || elementCount(batchA) === 1 || elementCount(batchB) === 1) return [a, b];
  const batch = broadcastDims(batchA, batchB)!;
  return [
    tf.broadcastTo(a, [...batch, ...a.shape.slice(-2)]),
    tf.broadcastTo(b, [...batch, ...b.shape.slice(-2)]),
  ];
}

const matMul: Operator = () =>
  plainKernel((a, b) => product(a!, b!, { transA: false, transB: false, alpha: 1 }));

const gemm: Operator = ({ attributes }) => {
  const transA = integerOf(attributes, 'transA', 0) !== 0;
  const transB = integerOf(attributes, 'transB', 0) !== 0;
  const alpha = floatOf(attributes, 'alpha', 1);
  const beta = floatOf(attributes, 'beta', 1);
  return plainKernel((a, b, c) => {
    const result = product(a!, b!, { transA, transB, alpha });
    return c === undefined ? result : tf.add(result, scaledBy(c, beta));
  });
};

export const linearOperators: OperatorTable = { MatMul: matMul, Gemm: gemm };
