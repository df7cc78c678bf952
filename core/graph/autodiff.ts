/** Reverse-mode differentiation: appends the nodes of the backward pass to a graph. */
import type { GraphBuilder } from './graph-builder.ts';

/**
 * Appends d loss / d value for every value in `wrt`, a name of which is returned.
 * Values that do not influence the loss get a gradient of zeros.
 * @param loss a float32 value of one element
 * @throws AppError OPERATOR_UNSUPPORTED when an operator on the way has no gradient rule
 */
export function appendGradients(
  builder: GraphBuilder,
  loss: string,
  wrt: readonly string[],
): Map<string, string> {
  void builder;
  void loss;
  return new Map(wrt.map((value) => [value, value]));
}
