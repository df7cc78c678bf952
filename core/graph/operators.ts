/** Which ONNX operators the graph layer knows, and where gradients flow through them. */
import { gradientRules } from './autodiff.ts';
import { compositeOperators } from './composites.ts';
import { inferenceRules } from './infer.ts';

/**
 * Where a gradient goes: `both` to the data and to the weights of the operator (or to every float operand),
 * `input` to its one float input only, `none` nowhere: training through it is refused.
 */
export type Trainable = 'both' | 'input' | 'none';

export interface SupportedOperator {
  readonly op: string;
  readonly trainable: Trainable;
  /** Built by {@link GraphBuilder.append} from other operators; no engine ever sees it. */
  readonly composite: boolean;
}

/** Rules with one float input; all other rules reach every float input. */
const oneInput = new Set<string>([
  ...['Neg', 'Abs', 'Sqrt', 'Exp', 'Log', 'Reciprocal', 'Identity', 'Cast', 'Clip'],
  ...['Erf', 'Tanh', 'Sigmoid', 'Relu', 'LeakyRelu', 'Elu', 'HardSigmoid', 'Softplus', 'Gelu'],
  ...['Softmax', 'LogSoftmax', 'LpNormalization'],
  ...['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL2', 'ReduceLogSumExp'],
  ...['Transpose', 'Reshape', 'Flatten', 'Slice', 'Split', 'Pad', 'Gather', 'Squeeze', 'Unsqueeze', 'Expand'],
  ...['MaxPool', 'AveragePool', 'GlobalAveragePool'],
]);

/** Every operator that {@link GraphBuilder.append} takes, by name. Opset 20 forms; GroupNormalization of opset 21. */
export function supportedOperators(): readonly SupportedOperator[] {
  const nodes = Object.keys(inferenceRules)
    .filter((op) => !Object.hasOwn(compositeOperators, op))
    .map((op): SupportedOperator => {
      const trainable = !Object.hasOwn(gradientRules, op) ? 'none' : oneInput.has(op) ? 'input' : 'both';
      return { op, trainable, composite: false };
    });
  const composites = Object.entries(compositeOperators).map(
    ([op, { trainable }]): SupportedOperator => ({ op, trainable, composite: true }),
  );
  return [...nodes, ...composites].sort((a, b) => (a.op < b.op ? -1 : 1));
}

/** Whether {@link GraphBuilder.append} knows the operator. */
export function isSupportedOperator(op: string): boolean {
  return Object.hasOwn(inferenceRules, op) || Object.hasOwn(compositeOperators, op);
}
