import { expect, it } from 'vitest';
import { plural } from '../../core/shared/text.ts';
import { formatPlural } from '../../renderer/format/format.ts';

it.each([
  [0, 'layer', '0 layers'],
  [1, 'layer', '1 layer'],
  [2, 'layer', '2 layers'],
  [1, 'class', '1 class'],
  [3, 'class', '3 classes'],
  [2, 'match', '2 matches'],
])('%d × %s is "%s", in core and on the screens', (count, singular, sentence) => {
  expect(plural(count, singular)).toBe(sentence);
  expect(formatPlural(count, singular)).toBe(sentence);
});

it('takes irregular plurals', () => {
  expect(plural(2, 'axis', 'axes')).toBe('2 axes');
  expect(formatPlural(2, 'axis', 'axes')).toBe('2 axes');
});
