/**
 * Builds ONNX graphs (opset 20) operator by operator; every value gets a static type.
 * Source of the operators' meaning: https://onnx.ai/onnx/operators/
 */
import type { Attributes } from './attributes.ts';
import { expandComposite } from './composites.ts';
import type { Graph } from './graph.ts';
import { OperatorBuilder } from './operator-builder.ts';

/** Values are named by strings; each operator method returns the name of its output. */
export class GraphBuilder extends OperatorBuilder {
  /** Goes on with an existing graph: its inputs, nodes, initializers, outputs and types are taken over. */
  static from(graph: Graph): GraphBuilder {
    const builder = new GraphBuilder();
    builder.load(graph);
    return builder;
  }

  /** As of GraphWriter; composites (see composites.ts) are appended as the operators they are made of. */
  override append(
    op: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    outputCount = 1,
  ): string[] {
    const outputs = expandComposite({ builder: this, op, inputs, attributes, outputCount });
    return outputs ?? super.append(op, inputs, attributes, outputCount);
  }
}
