import * as tf from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import {
  createAdamW,
  createSgd,
  learningRateFactor,
  type OptimiserOptions,
} from '../../core/engine/optimiser.ts';
import { createRandom } from '../../core/shared/random.ts';

const plain = { steps: 1000, warmupShare: 0, clipNorm: 0, proximal: 0 };

/** One parameter vector under the optimiser with a constant schedule as far as `steps` allows. */
function single(values: number[], options: Partial<OptimiserOptions & { rate: number; decay: number }> = {}) {
  const theta = Float32Array.from(values);
  const { rate = 0.1, decay = 0, ...rest } = options;
  const groups = [{ learningRate: rate, weightDecay: decay, parameters: new Map([['theta', theta]]) }];
  const optimiser = createAdamW({ ...plain, ...rest, groups });
  const step = (gradient: number[]) => optimiser.step(new Map([['theta', Float32Array.from(gradient)]]));
  return { theta, step };
}

describe('createAdamW', () => {
  test('the first step moves each value by the rate against the sign of its gradient', () => {
    const { theta, step } = single([1, -2, 3], { rate: 0.1 });

    step([0.5, -4, 1e-3]);

    for (const [index, expected] of [0.9, -1.9, 2.9].entries()) expect(theta[index]).toBeCloseTo(expected, 4);
  });

  test('agrees with the Adam of TensorFlow.js over many steps', async () => {
    await tf.setBackend('cpu');
    const start = [0.3, -1.2, 2.5, 0];
    const random = createRandom(7);
    const gradients = Array.from({ length: 40 }, () => start.map(() => random.normal()));
    // A schedule so long that its cosine stays at 1 for these steps.
    const { theta, step } = single(start, { rate: 0.01, steps: 1e9 });
    const reference = tf.variable(tf.tensor1d(start), true, 'theta');
    const adam = tf.train.adam(0.01, 0.9, 0.999, 1e-8);

    for (const gradient of gradients) {
      step(gradient);
      adam.applyGradients([{ name: 'theta', tensor: tf.tensor1d(gradient) }]);
    }

    const expected = await reference.data();
    for (const [index, value] of theta.entries()) expect(value).toBeCloseTo(expected[index]!, 5);
    reference.dispose();
  });

  test('weight decay is decoupled: without a gradient a value shrinks by rate times decay', () => {
    const { theta, step } = single([2], { rate: 0.1, decay: 0.5, steps: 1e9 });

    step([0]);
    step([0]);

    expect(theta[0]).toBeCloseTo(2 * 0.95 * 0.95, 6);
  });

  test('clipping acts on the norm over all parameters', () => {
    const a = Float32Array.of(0);
    const b = Float32Array.of(0);
    // With a large epsilon Adam is about linear in the gradient, which shows the clipping.
    const optimiser = createAdamW({
      ...plain,
      clipNorm: 1,
      epsilon: 1e6,
      groups: [
        { learningRate: 1e6, weightDecay: 0, parameters: new Map([['a', a]]) },
        { learningRate: 1e6, weightDecay: 0, parameters: new Map([['b', b]]) },
      ],
    });

    const { gradientNorm } = optimiser.step(
      new Map([
        ['a', Float32Array.of(3)],
        ['b', Float32Array.of(4)],
      ]),
    );

    expect(gradientNorm).toBeCloseTo(5, 6);
    expect(a[0]).toBeCloseTo(-0.6, 4);
    expect(b[0]).toBeCloseTo(-0.8, 4);
  });

  test('a gradient below the clipping norm stays as it is', () => {
    const { theta, step } = single([0], { rate: 1e6, clipNorm: 10, epsilon: 1e6 });

    step([2]);

    expect(theta[0]).toBeCloseTo(-2, 4);
  });

  test('the proximal pull leads back to where training began', () => {
    const { theta, step } = single([1], { rate: 0.05, proximal: 1, steps: 1e9 });
    for (let i = 0; i < 20; i++) step([-1]);
    const furthest = theta[0]!;
    for (let i = 0; i < 400; i++) step([0]);

    expect(furthest).toBeGreaterThan(1.3);
    expect(Math.abs(theta[0]! - 1)).toBeLessThan(0.02);
  });

  test('with a constant gradient the pull stops where λ times the distance equals it', () => {
    const { theta, step } = single([0], { rate: 0.02, proximal: 4, steps: 1e9 });

    for (let i = 0; i < 2000; i++) step([-1]);

    expect(theta[0]).toBeCloseTo(0.25, 2);
  });

  test('a missing gradient is an error', () => {
    const { step } = single([0, 0]);
    expect(() => step([1])).toThrow(RangeError);
  });
});

describe('createSgd', () => {
  const gradients = [
    [0.5, -1, 0.25],
    [0.1, 0.3, -0.7],
    [-0.4, 0.2, 0.9],
    [0.05, -0.6, 0.3],
  ];

  // Expected values: torch.optim.SGD of PyTorch, the same start, gradients and rate 0.05.
  test.each([
    ['momentum', { momentum: 0.9, nesterov: false, weightDecay: 0 }, [0.235975, -1.0577002, 2.4513626]],
    ['Nesterov', { momentum: 0.9, nesterov: true, weightDecay: 0 }, [0.2298775, -1.01693, 2.4187262]],
    ['weight decay', { momentum: 0.8, nesterov: true, weightDecay: 0.1 }, [0.2318357, -0.9874291, 2.2945843]],
  ])('agrees with PyTorch: %s', (_, { weightDecay, ...rule }, expected) => {
    const theta = Float32Array.of(0.3, -1.2, 2.5);
    const groups = [{ learningRate: 0.05, weightDecay, parameters: new Map([['theta', theta]]) }];
    const optimiser = createSgd({ ...plain, ...rule, groups, learningRateSchedule: 'constant' });

    for (const gradient of gradients) optimiser.step(new Map([['theta', Float32Array.from(gradient)]]));

    for (const [index, value] of theta.entries()) expect(value).toBeCloseTo(expected[index]!, 6);
  });
});

describe('the state of an optimiser', () => {
  test.each([
    ['AdamW', createAdamW],
    ['SGD', createSgd],
  ])('stored and restored goes on bit for bit: %s', (_, create) => {
    const random = createRandom(4);
    const gradients = Array.from({ length: 6 }, () => Float32Array.of(random.normal(), random.normal()));
    const make = () => {
      const theta = Float32Array.of(1, -2);
      const groups = [{ learningRate: 0.1, weightDecay: 0.01, parameters: new Map([['theta', theta]]) }];
      const options = {
        ...plain,
        steps: 6,
        warmupShare: 0.3,
        clipNorm: 1,
        proximal: 0.5,
        nesterov: true,
        groups,
      };
      return { theta, optimiser: create(options) };
    };
    const step = ({ optimiser }: ReturnType<typeof make>, gradient: Float32Array) =>
      optimiser.step(new Map([['theta', gradient.slice()]]));
    const whole = make();
    for (const gradient of gradients) step(whole, gradient);

    const first = make();
    for (const gradient of gradients.slice(0, 3)) step(first, gradient);
    const second = make();
    second.theta.set(first.theta);
    second.optimiser.restore(
      3,
      new Map([...first.optimiser.moments].map(([name, data]) => [name, data.slice()])),
    );
    for (const gradient of gradients.slice(3)) step(second, gradient);

    expect(second.theta).toEqual(whole.theta);
    expect([...second.optimiser.moments]).toEqual([...whole.optimiser.moments]);
  });

  test('of another shape is refused and changes nothing', () => {
    const { optimiser } = (() => {
      const groups = [
        { learningRate: 0.1, weightDecay: 0, parameters: new Map([['theta', Float32Array.of(1, 2)]]) },
      ];
      return { optimiser: createAdamW({ ...plain, groups }) };
    })();
    const wrong = new Map([
      ['mean/theta', Float32Array.of(5, 5)],
      ['square/theta', Float32Array.of(5)],
    ]);

    expect(() => optimiser.restore(3, wrong)).toThrow(/square\/theta/);
    expect([...optimiser.moments.values()]).toEqual([Float32Array.of(0, 0), Float32Array.of(0, 0)]);
  });

  test('a gradient that is not finite changes neither values nor moments', () => {
    const { theta, step } = single([1, 2]);
    step([0.1, 0.2]);
    const before = theta.slice();

    const { gradientNorm, rateFactor } = step([Number.NaN, 1]);

    expect(Number.isFinite(gradientNorm)).toBe(false);
    expect(rateFactor).toBe(0);
    expect(theta).toEqual(before);
  });
});

describe('learningRateFactor', () => {
  test('falls in a straight line or not at all, after the same warm-up', () => {
    const factors = (schedule: 'linear' | 'constant') =>
      Array.from({ length: 10 }, (_, step) => learningRateFactor(step, 10, 0.2, schedule));

    expect(factors('linear').map((value) => Number(value.toFixed(6)))).toEqual([
      0.333333, 0.666667, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125,
    ]);
    expect(factors('constant').slice(1)).toEqual([2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]);
  });

  test('rises linearly, then falls along half a cosine', () => {
    const factors = Array.from({ length: 10 }, (_, step) => learningRateFactor(step, 10, 0.2));

    expect(factors[0]).toBeCloseTo(1 / 3, 10);
    expect(factors[1]).toBeCloseTo(2 / 3, 10);
    expect(factors[2]).toBe(1);
    expect(factors[6]).toBeCloseTo(0.5, 10);
    expect(factors[9]).toBeCloseTo(0.5 * (1 + Math.cos((Math.PI * 7) / 8)), 10);
    expect(Math.min(...factors)).toBeGreaterThan(0);
  });
});
