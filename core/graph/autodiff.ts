/**
 * Reverse-mode differentiation: appends the nodes of the backward pass to a graph.
 * Each operator brings its rule, one loop goes backwards (after tinygrad's gradient.py).
 */
import { AppError } from '../shared/errors.ts';
import { elementCount } from '../shared/tensor.ts';
import type { GraphNode } from './graph.ts';
import type { OperatorBuilder } from './operator-builder.ts';
import { filled, sumTo } from './operators/shared-nodes.ts';
import { operators } from './operators.ts';

/** Every float value that changes when one of `wrt` does; only these ever get a gradient. */
function dependents(
  builder: OperatorBuilder,
  nodes: readonly GraphNode[],
  wrt: readonly string[],
): Set<string> {
  const changing = new Set(wrt);
  for (const node of nodes) {
    if (!node.inputs.some((input) => changing.has(input))) continue;
    for (const output of node.outputs) {
      if (builder.typeOf(output).dtype === 'float32') changing.add(output);
    }
  }
  return changing;
}

/**
 * Appends d loss / d value for every name in `wrt` and returns the gradient's name for each.
 * Gradients have the shape of their value; a value that does not reach the loss gets zeros.
 * Nodes that lead to none of `wrt` are never built.
 * @param loss a float32 value of one element
 * @param wrt graph inputs, initializers or computed values
 * @throws AppError OPERATOR_UNSUPPORTED when an operator on the way has no rule, SHAPE_MISMATCH when the
 *   loss has more than one element
 */
export function appendGradients(
  builder: OperatorBuilder,
  loss: string,
  wrt: readonly string[],
): Map<string, string> {
  const lossDims = builder.dimsOf(loss);
  if (elementCount(lossDims) !== 1) {
    throw new AppError('SHAPE_MISMATCH', `The loss has shape [${lossDims.join(', ')}] instead of one value.`);
  }
  const forward = [...builder.nodes];
  const changing = dependents(builder, forward, wrt);
  const gradients = new Map<string, string>([[loss, filled(builder, lossDims, 1)]]);
  for (const node of forward.reverse()) {
    const incoming = node.outputs.map((output) => gradients.get(output));
    const gradient = incoming.find((value) => value !== undefined);
    const needed = node.inputs.map((input) => changing.has(input));
    if (gradient === undefined || !needed.includes(true)) continue;
    const rule = operators.get(node.op)?.gradient;
    if (rule === undefined) {
      throw new AppError('OPERATOR_UNSUPPORTED', `The operator ${node.op} (${node.name}) cannot be trained.`);
    }
    const outgoing = rule({ builder, node, gradient, gradients: incoming, needed });
    for (const [index, input] of node.inputs.entries()) {
      const given = outgoing[index];
      if (given === undefined || !needed[index]) continue;
      const part = sumTo(builder, given, builder.dimsOf(input));
      const known = gradients.get(input);
      gradients.set(input, known === undefined ? part : builder.add(known, part));
    }
  }
  return new Map(
    wrt.map((value) => [value, gradients.get(value) ?? filled(builder, builder.dimsOf(value), 0)]),
  );
}
