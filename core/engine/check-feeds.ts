/** Feeds are checked before a runtime sees them: it would report a wrong one in its own words, or crash. */
import type { Graph, ValueType } from '../graph/graph.ts';
import { AppError } from '../shared/errors.ts';
import { elementCount, sameDims, type Tensor } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';

/**
 * The fed tensors by the graph's inputs; what the graph does not take is left out.
 * @throws AppError SHAPE_MISMATCH when a feed is missing or not of the type the graph declares
 */
export function checkFeeds(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Map<string, Tensor> {
  return new Map(
    graph.inputs.map((name) => {
      const tensor = feeds[name];
      if (tensor === undefined) throw new AppError('SHAPE_MISMATCH', `The input "${name}" was not given.`);
      checkFeed(name, tensor, graph.types.get(name)!);
      return [name, tensor];
    }),
  );
}

function checkFeed(name: string, tensor: Tensor, type: ValueType): void {
  if (tensor.dtype !== type.dtype || !sameDims(tensor.dims, type.dims)) {
    throw new AppError(
      'SHAPE_MISMATCH',
      `The input "${name}" is ${tensor.dtype} [${tensor.dims.join(', ')}] instead of ${type.dtype} [${type.dims.join(', ')}].`,
    );
  }
  if (tensor.data.length !== elementCount(tensor.dims)) {
    throw new AppError('SHAPE_MISMATCH', `The input "${name}" has ${plural(tensor.data.length, 'value')}.`);
  }
}
