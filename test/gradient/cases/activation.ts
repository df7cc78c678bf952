/** Cases of activations; kinks are kept away from the values. */
import { floatTensor } from '../../../core/shared/tensor.ts';
import { randomTensor, spacedTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase } from './rule-case.ts';

const spaced = { x: spacedTensor([4, 5], 'activation') };
const wide = { x: randomTensor([4, 5], 'wide', 2) };
const image = { x: spacedTensor([2, 3, 2, 3], 'prelu') };
const slopes = (values: number[]) => floatTensor([values.length, 1, 1], Float32Array.from(values));

export const activationCases: readonly RuleCase[] = [
  ruleCase('Tanh', 'of random values', wide, (g) => g.tanh('x')),
  ruleCase('Sigmoid', 'of random values', wide, (g) => g.sigmoid('x')),
  ruleCase('Relu', 'beside the kink', spaced, (g) => g.relu('x')),
  ruleCase('Gelu', 'of random values', wide, (g) => g.gelu('x')),
  ruleCase('Softplus', 'of random values', wide, (g) => g.softplus('x')),
  ...[0.1, 0, -0.5].map((alpha) =>
    ruleCase('LeakyRelu', `slope ${alpha}`, spaced, (g) =>
      g.append1('LeakyRelu', ['x'], { alpha: { float: alpha } }),
    ),
  ),
  ...[1, 0.7, -0.7].map((alpha) => ruleCase('Elu', `alpha ${alpha}`, spaced, (g) => g.elu('x', alpha))),
  ruleCase('HardSigmoid', 'default slope, both flat ends', { x: spacedTensor([7, 10], 'hs') }, (g) =>
    g.append1('HardSigmoid', ['x']),
  ),
  ruleCase('HardSigmoid', 'steep and shifted', spaced, (g) =>
    g.append1('HardSigmoid', ['x'], { alpha: { float: 1.5 }, beta: { float: 0.3 } }),
  ),
  ruleCase('Clip', 'both bounds', spaced, (g) => g.append1('Clip', ['x', g.scalar(-0.5), g.scalar(0.3)])),
  ruleCase('Clip', 'lower bound only', spaced, (g) => g.append1('Clip', ['x', g.scalar(0), ''])),
  ruleCase('Clip', 'upper bound only', spaced, (g) => g.append1('Clip', ['x', '', g.scalar(0.4)])),
  ruleCase('Clip', 'no bound', spaced, (g) => g.append1('Clip', ['x', '', ''])),
  ruleCase('PRelu', 'a trained slope per channel', { ...image, slope: slopes([0.2, -0.4, 1.5]) }, (g) =>
    g.append1('PRelu', ['x', 'slope']),
  ),
  ruleCase('PRelu', 'one trained slope', { ...image, slope: floatTensor([1], Float32Array.of(0.3)) }, (g) =>
    g.append1('PRelu', ['x', 'slope']),
  ),
  ruleCase('PRelu', 'frozen slopes of either sign', image, (g) =>
    g.append1('PRelu', ['x', g.constant(slopes([0.2, -0.4, 0]))]),
  ),
  ruleCase('PRelu', 'frozen slopes that are not negative', image, (g) =>
    g.append1('PRelu', ['x', g.constant(slopes([0.2, 0, 1]))]),
  ),
];
