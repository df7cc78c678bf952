/** What a person says about a network that is to be imported, and the options of the import that follow from it. */
import type { ImportOptions, ModelQuestion } from '../../core/api/contract.ts';
import type { Alignment } from '../../core/config/alignment.ts';
import { type ChannelOrder, pixelRecipes } from '../../core/config/preprocessing.ts';

/** Instead of a recipe: numbers from the description of the network. */
export const ownNumbers = 'own';

/** Empty texts: nothing was said. */
export interface ModelAnswers {
  /** Id of a recipe, or {@link ownNumbers}. */
  readonly recipe: string;
  readonly mean: string;
  readonly deviation: string;
  /** Largest value of the pixels that the own numbers are of. */
  readonly range: '' | '1' | '255';
  readonly channelOrder: '' | ChannelOrder;
  readonly imageSize: string;
  readonly output: string;
  readonly pooling: '' | 'class' | 'first' | 'mean';
  readonly alignment: '' | Alignment;
  readonly id: string;
  readonly licence: string;
}

export const noAnswers: ModelAnswers = {
  ...{ recipe: '', mean: '', deviation: '', range: '', channelOrder: '', imageSize: '', output: '' },
  ...{ pooling: '', alignment: '', id: '', licence: '' },
};

/** `0.5` for all channels, or `0.485, 0.456, 0.406`. @returns null when it is neither */
export function readChannels(text: string): number[] | null {
  const words = text.split(/[\s,;]+/).filter((word) => word !== '');
  const values = words.map(Number);
  if (!values.every(Number.isFinite) || (values.length !== 1 && values.length !== 3)) return null;
  return values.length === 1 ? [values[0]!, values[0]!, values[0]!] : values;
}

/** A recipe that its users agree about says the order of the colours, too. */
export function chooseRecipe(answers: ModelAnswers, recipe: string): ModelAnswers {
  const order = pixelRecipes.find(({ id }) => id === recipe)?.channelOrder ?? '';
  return { ...answers, recipe, channelOrder: order };
}

function pixelOptions({ recipe, mean, deviation, range }: ModelAnswers): ImportOptions | null {
  if (recipe === '') return {};
  if (recipe !== ownNumbers) {
    const { values } = pixelRecipes.find(({ id }) => id === recipe)!;
    return {
      range: values.range,
      ...(values.mean && { mean: [...values.mean] }),
      ...(values.deviation && { deviation: [...values.deviation] }),
    };
  }
  const [means, deviations] = [readChannels(mean), readChannels(deviation)];
  if (means === null || deviations === null || range === '' || deviations.some((value) => value <= 0))
    return null;
  return { mean: means, deviation: deviations, range: range === '1' ? 1 : 255 };
}

/**
 * @param format a folder says the order of the colours by its family
 * @returns null while what is typed cannot be an answer
 */
export function optionsOf(answers: ModelAnswers, format: 'vit' | 'onnx'): ImportOptions | null {
  const { channelOrder, imageSize, output, pooling, alignment } = answers;
  const pixels = pixelOptions(answers);
  const side = Number(imageSize);
  const isSide = Number.isInteger(side) && side > 0 && side <= 4096;
  if (pixels === null || (imageSize !== '' && !isSide)) return null;
  return {
    ...pixels,
    ...(channelOrder !== '' && format === 'onnx' && { channelOrder }),
    ...(imageSize !== '' && { imageSize: side }),
    ...(output.trim() !== '' && { output: output.trim() }),
    ...(pooling !== '' && { pooling }),
    ...(alignment !== '' && { alignment }),
  };
}

/** What does not change the network itself. */
export const nameOptionsOf = ({ id, licence }: ModelAnswers): ImportOptions => ({
  ...(id.trim() !== '' && { id: id.trim() }),
  ...(licence.trim() !== '' && { licence: licence.trim() }),
});

/** Whether everything that was asked has an answer. @param hasOrder the format of the file leaves the order of the colours open */
export function isAnswered(
  questions: readonly ModelQuestion[],
  answers: ModelAnswers,
  hasOrder: boolean,
): boolean {
  return questions.every(({ about }) => {
    if (about === 'pixels') return answers.recipe !== '' && (!hasOrder || answers.channelOrder !== '');
    if (about === 'range') return answers.recipe !== '';
    return answers[about] !== '';
  });
}
