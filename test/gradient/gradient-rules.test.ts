import { describe, expect, test } from 'vitest';
import { appendGradients } from '../../core/graph/autodiff.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { operators } from '../../core/graph/operators.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { compareGradients, execute, randomTensor, relativeError } from './finite-differences.ts';
import { ruleCases } from './rule-cases.ts';

const tolerance = 1e-3;

describe('gradient rules against finite differences', () => {
  test.each(ruleCases.map((ruleCase) => [`${ruleCase.op}: ${ruleCase.title}`, ruleCase] as const))(
    '%s',
    async (_title, ruleCase) => {
      const { error, forward, numeric } = await compareGradients(ruleCase);

      expect(error).toBeLessThan(tolerance);
      expect(forward.nodes.map((node) => node.op)).toContain(ruleCase.op);
      // A case whose gradients all vanish would prove nothing.
      for (const slope of numeric.values()) expect(slope.some((value) => Math.abs(value) > 0.01)).toBe(true);
    },
  );

  test('every rule of the table has a case', () => {
    const tested = new Set(ruleCases.map((ruleCase) => ruleCase.op));

    const trained = [...operators].filter(([, { gradient }]) => gradient !== undefined);
    expect([...tested].sort()).toEqual(trained.map(([op]) => op).sort());
  });

  test('the comparison notices an error of one percent', async () => {
    const { analytic, numeric } = await compareGradients({
      feeds: { x: randomTensor([2, 3], 1), w: randomTensor([3, 2], 2) },
      build: (g) => g.matMul('x', 'w'),
    });
    const wrong = analytic.get('x')!.map((value) => value * 1.01);

    expect(relativeError(wrong, numeric.get('x')!)).toBeGreaterThan(tolerance);
  });
});

describe('ties', () => {
  test('the first of equal maxima in a pooling window takes the whole gradient', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [1, 1, 2, 4]);
    const loss = builder.reduceSum(builder.maxPool(x, [2, 2], { strides: [2, 2] }), undefined, false);
    builder.output(appendGradients(builder, loss, [x]).get(x)!, 'gradient');

    const values = floatTensor([1, 1, 2, 4], Float32Array.of(1, 1, 0, 2, 1, 1, 2, 0));
    const { gradient } = await execute(builder.build(), { x: values });

    expect([...gradient!.data]).toEqual([1, 0, 0, 1, 0, 0, 0, 0]);
  });

  test('equal maxima of a reduction share the gradient', async () => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [4]);
    const loss = builder.reduceMax(x, [0], false);
    builder.output(appendGradients(builder, loss, [x]).get(x)!, 'gradient');

    const { gradient } = await execute(builder.build(), { x: floatTensor([4], Float32Array.of(3, 1, 3, 2)) });

    expect([...gradient!.data]).toEqual([0.5, 0, 0.5, 0]);
  });
});

/** d (sum of the output) / d x at given values. */
async function gradientAt(x: FloatTensor, build: (builder: GraphBuilder) => string): Promise<number[]> {
  const builder = new GraphBuilder();
  builder.input('x', 'float32', x.dims);
  const loss = builder.reduceSum(build(builder), undefined, false);
  builder.output(appendGradients(builder, loss, ['x']).get('x')!, 'gradient');
  const { gradient } = await execute(builder.build(), { x });
  return Array.from(gradient!.data, Number);
}

describe('values where a derivative jumps or a quotient has no value', () => {
  const row = (...values: number[]) => floatTensor([values.length], Float32Array.from(values));

  test('at the bounds of Clip the gradient goes through, beyond them it does not', async () => {
    expect(
      await gradientAt(row(-2, -1, 0, 1, 2), (g) => g.append1('Clip', ['x', g.scalar(-1), g.scalar(1)])),
    ).toEqual([0, 1, 1, 1, 0]);
  });

  test('Relu and Abs have no slope at 0, LeakyRelu and PRelu that of the negative side', async () => {
    expect(await gradientAt(row(0), (g) => g.relu('x'))).toEqual([0]);
    expect(await gradientAt(row(0, -3), (g) => g.abs('x'))).toEqual([0, -1]);
    expect(
      await gradientAt(row(0), (g) => g.append1('LeakyRelu', ['x'], { alpha: { float: 0.25 } })),
    ).toEqual([0.25]);
    expect(await gradientAt(row(0), (g) => g.append1('PRelu', ['x', g.scalar(0.25)]))).toEqual([0.25]);
  });

  test('HardSigmoid is flat at both ends and steep close to them', async () => {
    const build = (g: GraphBuilder) => g.append1('HardSigmoid', ['x'], { alpha: { float: 0.25 } });

    expect(await gradientAt(row(-2, -1.999999, 0, 1.999999, 2, 9), build)).toEqual([
      0, 0.25, 0.25, 0.25, 0, 0,
    ]);
  });

  test('the first of two equal operands of Max and Min takes the gradient', async () => {
    const twice = (op: string) => (g: GraphBuilder) =>
      g.append1(op, [g.mul('x', g.scalar(3)), g.mul('x', g.scalar(3))]);

    expect(await gradientAt(row(1, -1), twice('Max'))).toEqual([3, 3]);
    expect(await gradientAt(row(1, -1), twice('Min'))).toEqual([3, 3]);
  });

  test.each([
    ['ReduceL2', (g: GraphBuilder) => g.reduceL2('x', [1])],
    ['LpNormalization, p 2', (g: GraphBuilder) => g.append1('LpNormalization', ['x'], { p: 2 })],
    ['LpNormalization, p 1', (g: GraphBuilder) => g.append1('LpNormalization', ['x'], { p: 1 })],
  ])('%s of zeros has the gradient 0, beside a row that has one', async (_title, build) => {
    const x = floatTensor([2, 3], Float32Array.of(0, 0, 0, 1, -2, 0.5));

    const gradient = await gradientAt(x, build);

    expect(gradient.slice(0, 3)).toEqual([0, 0, 0]);
    expect(gradient.slice(3).every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
  });

  test('Softplus and LogSumExp of large values stay finite', async () => {
    expect(await gradientAt(row(-200, 200), (g) => g.softplus('x'))).toEqual([0, 1]);
    const largest = await gradientAt(row(500, 0), (g) => g.append1('ReduceLogSumExp', ['x']));
    expect(largest).toEqual([1, 0]);
  });
});

describe('what is not built', () => {
  const slopes = floatTensor([3, 1, 1], Float32Array.of(0.1, 0.2, 0.3));
  const opsAdded = (trained: readonly string[]) => {
    const builder = new GraphBuilder();
    const x = builder.input('x', 'float32', [2, 3, 4, 4]);
    const vector = (name: string) => builder.constant(randomTensor([3], name, 0.1, 1), name);
    const before = builder.mul(builder.input('w', 'float32', [3, 1, 1]), x);
    const normal = builder.append1('BatchNormalization', [before, ...['s', 'b', 'm', 'v'].map(vector)]);
    const active = builder.append1('PRelu', [normal, builder.constant(slopes)]);
    const loss = builder.reduceSum(active, undefined, false);
    const count = builder.nodes.length;
    appendGradients(builder, loss, trained);
    return builder.nodes.slice(count).map(({ op }) => op);
  };

  test('frozen BatchNormalization costs one product, frozen PRelu one and its mask', () => {
    const forSlopes = ['HardSigmoid', 'Max', 'Mul'];
    const forNormal = ['Mul'];
    const forWeight = ['Mul', 'ReduceSum', 'Reshape'];
    const forLoss = ['Expand', 'Reshape'];

    expect(opsAdded(['w']).sort()).toEqual([...forSlopes, ...forNormal, ...forWeight, ...forLoss].sort());
  });
});
