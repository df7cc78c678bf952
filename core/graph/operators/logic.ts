/** Comparisons and logic beyond those that engines compute: bool in or out, so no gradient goes through. */
import {
  type Composition,
  inputName,
  inputOf,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
} from './operator.ts';
import { asMask } from './shared-nodes.ts';

function bools(request: OperatorRequest, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    if (inputOf(request, index).dtype !== 'bool') throw mismatch(request, `input ${index} is no bool`);
    return asMask(request.builder, inputName(request, index));
  });
}

/** How many of two conditions hold, compared with a number between the counts. */
const counted =
  (compare: 'greater' | 'less', bound: number): Composition =>
  (request) => {
    const { builder } = request;
    const [a, b] = bools(request, 2) as [string, string];
    return [builder[compare](builder.add(a, b), builder.scalar(bound))];
  };

const xor: Composition = (request) => {
  const { builder } = request;
  const [a, b] = bools(request, 2) as [string, string];
  return [builder.greater(builder.abs(builder.sub(a, b)), builder.scalar(0.5))];
};

const not: Composition = (request) => {
  const { builder } = request;
  return [builder.less(bools(request, 1)[0]!, builder.scalar(0.5))];
};

/** A comparison or equality, so that NaN is neither, as in ONNX. */
const orEqual =
  (compare: 'greater' | 'less'): Composition =>
  (request) => {
    const { builder } = request;
    const [a, b] = [inputName(request, 0), inputName(request, 1)];
    const strictly = asMask(builder, builder[compare](a, b));
    return [
      builder.greater(builder.add(strictly, asMask(builder, builder.equal(a, b))), builder.scalar(0.5)),
    ];
  };

const logic = (compose: Composition) => ({ trainable: 'none', fileAttributes: [], compose }) as const;

export const logicOperators: OperatorTable = {
  And: logic(counted('greater', 1.5)),
  Or: logic(counted('greater', 0.5)),
  Xor: logic(xor),
  Not: logic(not),
  GreaterOrEqual: logic(orEqual('greater')),
  LessOrEqual: logic(orEqual('less')),
};
