/** What a person says about a network becomes the options of its import; what cannot be an answer becomes none. */
import { describe, expect, test } from 'vitest';
import { pixelRecipes } from '../../core/config/preprocessing.ts';
import { formatOptions, importOptionsSchema } from '../../core/models/model-formats.ts';
import {
  chooseRecipe,
  isAnswered,
  type ModelAnswers,
  nameOptionsOf,
  noAnswers,
  optionsOf,
  ownNumbers,
  readChannels,
} from '../../renderer/api/model-answers.ts';

const saying = (answers: Partial<ModelAnswers>): ModelAnswers => ({ ...noAnswers, ...answers });
const own = { recipe: ownNumbers, range: '255', mean: '127.5', deviation: '128' } as const;

describe('options', () => {
  test('nothing said is nothing sent', () => {
    expect(optionsOf(noAnswers, 'onnx')).toEqual({});
    expect(nameOptionsOf(noAnswers)).toEqual({});
  });

  test.each(pixelRecipes.map((recipe) => [recipe.id, recipe] as const))(
    'the recipe %s means its own formula',
    (id, { values: { range, mean = [0, 0, 0], deviation = [1, 1, 1] } }) => {
      const options = importOptionsSchema.parse(optionsOf(chooseRecipe(noAnswers, id), 'onnx'));

      const said = formatOptions('onnx', options) as { mean: number[]; deviation: number[] };

      // Both forms of (pixel − mean) / deviation, of a pixel in the middle.
      for (const channel of [0, 1, 2]) {
        const wanted = (0.5 * range - mean[channel]!) / deviation[channel]!;
        expect((0.5 - said.mean[channel]!) / said.deviation[channel]!).toBeCloseTo(wanted, 9);
      }
    },
  );

  test('a folder has no order of colours to choose, whatever a recipe says', () => {
    const answers = chooseRecipe(noAnswers, 'imagenet');

    expect(optionsOf(answers, 'onnx')).toHaveProperty('channelOrder', 'rgb');
    expect(optionsOf(answers, 'vit')).not.toHaveProperty('channelOrder');
  });

  test.each<Partial<ModelAnswers>>([
    { ...own, mean: '1, 2' },
    { ...own, mean: '' },
    { ...own, mean: 'a half' },
    { ...own, deviation: '0' },
    { ...own, deviation: '0.2, -1, 0.2' },
    { ...own, range: '' },
    { imageSize: '0' },
    { imageSize: '112.5' },
    { imageSize: 'large' },
    { imageSize: '5000' },
  ])('%j is no answer', (answers) => {
    expect(optionsOf(saying(answers), 'onnx')).toBeNull();
  });

  test('numbers are read however they are separated', () => {
    expect(readChannels(' 0.5 ')).toEqual([0.5, 0.5, 0.5]);
    expect(readChannels('1; 2, 3')).toEqual([1, 2, 3]);
    expect(readChannels('Infinity')).toBeNull();
  });
});

describe('what was asked', () => {
  test('pixels need the order of the colours, too, where the format has one', () => {
    const bytes = chooseRecipe(noAnswers, 'bytes');

    expect(isAnswered([{ about: 'pixels' }], noAnswers, true)).toBe(false);
    expect(isAnswered([{ about: 'pixels' }], bytes, true)).toBe(false);
    expect(isAnswered([{ about: 'pixels' }], { ...bytes, channelOrder: 'bgr' }, true)).toBe(true);
    expect(isAnswered([{ about: 'pixels' }], bytes, false)).toBe(true);
  });

  test('each other question has its own answer', () => {
    const questions = [{ about: 'imageSize' }, { about: 'output', choices: ['a', 'b'] }] as const;

    expect(isAnswered(questions, saying({ imageSize: '112' }), true)).toBe(false);
    expect(isAnswered(questions, saying({ imageSize: '112', output: 'a' }), true)).toBe(true);
    expect(isAnswered([{ about: 'range', operators: ['Mul'] }], noAnswers, true)).toBe(false);
  });
});
