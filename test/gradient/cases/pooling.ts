/** Cases of pooling. */
import { randomTensor, spacedTensor } from '../finite-differences.ts';
import { type RuleCase, ruleCase, x234 } from './rule-case.ts';

const windowCases: RuleCase[] = (
  [
    ['3×3 by 2, leftover', [1, 2, 6, 8], [3, 3], { strides: [2, 2] }],
    ['3×3 by 1, padded, overlapping', [2, 1, 4, 4], [3, 3], { pads: [1, 1, 1, 1] }],
    ['2×2 by 2, side by side', [2, 2, 4, 6], [2, 2], { strides: [2, 2] }],
    ['2×3 by 2 and 3, side by side, leftover', [1, 2, 5, 8], [2, 3], { strides: [2, 3] }],
    ['the whole image', [2, 2, 3, 4], [3, 4], { strides: [3, 4] }],
    ['2×2 by 1', [1, 2, 3, 4], [2, 2], {}],
    ['2×2 by 3, gaps, leftover', [1, 2, 7, 8], [2, 2], { strides: [3, 3] }],
    ['dilated, uneven pads', [1, 2, 6, 5], [2, 2], { dilations: [2, 3], pads: [1, 0, 0, 1] }],
    ['dilated, stride 2', [1, 1, 7, 8], [3, 2], { dilations: [2, 2], strides: [2, 1] }],
    ['2×3 by 2 and 3, uneven pads', [1, 2, 5, 6], [2, 3], { strides: [2, 3], pads: [0, 1, 1, 0] }],
  ] as const
).flatMap(([title, dims, kernel, options]) => [
  ruleCase('MaxPool', title, { x: spacedTensor(dims, `max ${title}`) }, (g) =>
    g.maxPool('x', kernel, options),
  ),
  ruleCase('AveragePool', title, { x: randomTensor(dims, `avg ${title}`) }, (g) =>
    g.averagePool('x', kernel, options),
  ),
  ruleCase('AveragePool', `${title}, padding counted`, { x: randomTensor(dims, `avp ${title}`) }, (g) =>
    g.averagePool('x', kernel, { ...options, countIncludePad: true }),
  ),
]);

export const poolingCases: readonly RuleCase[] = [
  ...windowCases,
  ruleCase('GlobalAveragePool', 'of images', { x: randomTensor([2, 3, 3, 2], 'gap') }, (g) =>
    g.globalAveragePool('x'),
  ),
  ruleCase('GlobalAveragePool', 'of sequences', x234, (g) => g.globalAveragePool('x')),
];
