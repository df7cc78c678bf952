/** Operators written as others: their values against ONNX Runtime's own operator, their gradients numerically. */
import { describe, expect, test } from 'vitest';
import type { Graph } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { operators } from '../../core/graph/operators.ts';
import type { Tensor } from '../../core/shared/tensor.ts';
import { type CompositeCase, compositeCases } from './composite-cases.ts';
import { compareGradients, execute, relativeError } from './finite-differences.ts';

const named = compositeCases.map((item) => [`${item.op}: ${item.title}`, item] as const);
const trained = named.filter(([, { op }]) => operators.get(op)!.trainable !== 'none');
const outputCount = (item: CompositeCase) => (item.op === 'Split' ? 2 : 1);

function addInputs(builder: GraphBuilder, inputs: CompositeCase['inputs']): string[] {
  return inputs.map((input) => (typeof input === 'string' ? input : builder.constant(input)));
}

function appendCase(builder: GraphBuilder, item: CompositeCase): string[] {
  return builder.append(item.op, addInputs(builder, item.inputs), item.attributes, outputCount(item));
}

/** The same computation as one node of ONNX, past the builder. */
function nativeGraph(item: CompositeCase, built: Graph): Graph {
  const builder = new GraphBuilder();
  for (const [name, { dtype, dims }] of Object.entries(item.feeds)) builder.input(name, dtype, dims);
  const inputs = addInputs(builder, item.nativeInputs ?? item.inputs);
  const outputs = built.outputs.map((_, index) => `native ${index}`);
  const extra = item.op === 'Split' ? { num_outputs: outputs.length } : {};
  const types = new Map(outputs.map((name, index) => [name, built.types.get(built.outputs[index]!)!]));
  const attributes = { ...item.attributes, ...extra };
  builder.copyNode({ op: item.op, name: 'native', inputs, outputs, attributes }, types);
  for (const output of outputs) builder.output(output);
  return builder.build();
}

describe('composites', () => {
  test.each(named)('%s has the values of the operator itself', async (_title, item) => {
    const builder = new GraphBuilder();
    for (const [name, { dtype, dims }] of Object.entries(item.feeds)) builder.input(name, dtype, dims);
    for (const [index, value] of appendCase(builder, item).entries()) builder.output(value, `ours ${index}`);
    const graph = builder.build();

    const ours = Object.values(await execute(graph, item.feeds)) as Tensor<'float32'>[];
    const native = Object.values(await execute(nativeGraph(item, graph), item.feeds)) as Tensor<'float32'>[];

    expect(ours.map(({ dims }) => dims)).toEqual(native.map(({ dims }) => dims));
    expect(ours).toHaveLength(outputCount(item));
    for (const [index, { data }] of native.entries()) {
      expect(relativeError(ours[index]!.data, Float64Array.from(data))).toBeLessThan(2e-6);
    }
  });

  test.each(trained)('%s has the right gradient', async (_title, item) => {
    const { error, numeric } = await compareGradients({
      feeds: item.feeds,
      build: (builder) => {
        const outputs = appendCase(builder, item);
        return outputs.length === 1 ? outputs[0]! : builder.concat(outputs, 0);
      },
    });

    expect(error).toBeLessThan(1e-3);
    for (const slope of numeric.values()) expect(slope.some((value) => Math.abs(value) > 0.01)).toBe(true);
  });

  test('every composite has a case', () => {
    const tested = new Set(compositeCases.map((item) => item.op));
    const composites = [...operators].filter(([, { infer }]) => infer === undefined);

    expect(composites.length).toBeGreaterThan(10);
    for (const [op] of composites) expect(tested).toContain(op);
  });
});
