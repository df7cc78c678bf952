/** Values of a file that follow from its constants alone, computed when they are asked for. */
import { AppError } from '../../shared/errors.ts';
import { NodeProblem } from './attributes.ts';
import { canFold, foldNode } from './fold-constants.ts';
import type { HostTensor } from './host-tensor.ts';
import type { Network } from './network.ts';

/** The value of a name of the file; undefined when it depends on the image, or cannot be computed here. */
export type StaticValues = (name: string | undefined) => HostTensor | undefined;

/** Larger values are nothing that single numbers of the preprocessing are made of. */
const mostValues = 4096;
/** Longer ways from a constant to its use are none of those either. */
const mostSteps = 64;

export function createStaticValues({ nodes, tensors, opset }: Network): StaticValues {
  const producers = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const found = new Map<string, HostTensor | undefined>();
  const compute = (name: string | undefined, depth = 0): HostTensor | undefined => {
    if (name === undefined || name === '' || depth > mostSteps) return undefined;
    const own = tensors.get(name);
    if (own !== undefined) return own.data.length <= mostValues ? own : undefined;
    if (found.has(name)) return found.get(name);
    // A loop would come back here; files have none once they are sorted.
    found.set(name, undefined);
    const node = producers.get(name);
    if (node === undefined || !canFold(node)) return undefined;
    const inputs = node.inputs.map((input) => (input === '' ? undefined : compute(input, depth + 1)));
    if (node.inputs.some((input, index) => input !== '' && inputs[index] === undefined)) return undefined;
    try {
      const results = foldNode({ node, inputs, opset });
      for (const [index, output] of node.outputs.entries()) found.set(output, results[index]);
    } catch (error) {
      // It is refused where the network is written, with the node's name.
      if (!(error instanceof NodeProblem) && !(error instanceof AppError)) throw error;
    }
    return found.get(name);
  };
  return (name) => compute(name);
}
