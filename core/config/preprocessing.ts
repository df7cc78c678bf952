/**
 * What is done to a face's pixels before a network sees them. A wrong normalisation breaks no network, it only makes it worse without
 * a word: so it is recognised or asked for, never guessed (docs/models.md).
 */
import { z } from 'zod';

const perChannel = z.array(z.number()).length(3);

/** What the forward graph does to pixels first: (pixel / 255 − mean) / deviation; red, green, blue. */
export interface Normalisation {
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}
export const normalisationSchema: z.ZodType<Normalisation> = z.strictObject({
  mean: perChannel,
  deviation: perChannel,
});

export type ChannelOrder = 'rgb' | 'bgr';

/** Where what is done to the pixels of an ONNX file is known from, for people to see. */
export interface Preprocessing {
  /** Who said how pixels are normalised: the person at the import, or the file's own first nodes. */
  readonly source: 'given' | 'recognised';
  /** What the file itself does with pixels of 0…range: (pixel − mean) / deviation; null when it does nothing. */
  readonly inside: ({ readonly range: 1 | 255 } & Normalisation) | null;
  readonly channelOrder: ChannelOrder;
  readonly channelSource: 'given' | 'recognised' | 'assumed';
}
export const preprocessingSchema: z.ZodType<Preprocessing> = z.strictObject({
  source: z.enum(['given', 'recognised']),
  inside: z
    .strictObject({ range: z.union([z.literal(1), z.literal(255)]), mean: perChannel, deviation: perChannel })
    .nullable(),
  channelOrder: z.enum(['rgb', 'bgr']),
  channelSource: z.enum(['given', 'recognised', 'assumed']),
});

/** What a person may choose by name instead of by numbers. */
export interface PixelRecipe {
  readonly id: string;
  readonly label: string;
  /** As an import takes them: of pixels of 0…range; without mean and deviation pixels go in as they are. */
  readonly values: {
    readonly range: 1 | 255;
    readonly mean?: readonly number[];
    readonly deviation?: readonly number[];
  };
  /** Where its users agree about it. */
  readonly channelOrder?: ChannelOrder;
}

const each = (value: number): readonly number[] => [value, value, value];

/**
 * ArcFace: Deng et al. 2019 (arXiv 1801.07698) subtract 127.5 and divide by 128; InsightFace's PyTorch code divides by 127.5.
 * ImageNet: the statistics of torchvision's and timm's models.
 */
export const pixelRecipes: readonly PixelRecipe[] = [
  {
    id: 'arcface-127.5',
    label: 'ArcFace, InsightFace: (pixel − 127.5) / 127.5',
    values: { range: 255, mean: each(127.5), deviation: each(127.5) },
    channelOrder: 'rgb',
  },
  {
    id: 'arcface-128',
    label: 'ArcFace, as in its paper: (pixel − 127.5) / 128',
    values: { range: 255, mean: each(127.5), deviation: each(128) },
    channelOrder: 'rgb',
  },
  {
    id: 'imagenet',
    label: 'ImageNet: mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225',
    values: { range: 1, mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
    channelOrder: 'rgb',
  },
  { id: 'unit', label: 'Pixels of 0 to 1, as they are', values: { range: 1 } },
  { id: 'bytes', label: 'Pixels of 0 to 255, as they are', values: { range: 255 } },
];

const listed = (values: readonly number[]): string => {
  const short = values.map((value) => String(Number(value.toFixed(4))));
  return new Set(short).size === 1 ? short[0]! : `[${short.join(', ')}]`;
};

/** "(pixel of 0…1 − [0.485, …]) / [0.229, …]" */
function formula({ mean, deviation }: Normalisation, range: 1 | 255): string {
  const isShifted = mean.some((value) => value !== 0);
  const isScaled = deviation.some((value) => value !== 1);
  if (!isShifted && !isScaled) return `pixels of 0…${range}, as they are`;
  const shifted = isShifted ? `(pixel of 0…${range} − ${listed(mean)})` : `pixel of 0…${range}`;
  return isScaled ? `${shifted} / ${listed(deviation)}` : shifted;
}

/** Of pixels of 0…1 that are given to the file as 0…255. */
const areBytes = ({ mean, deviation }: Normalisation): boolean =>
  mean.every((value) => value === 0) && deviation.every((value) => Math.fround(255 * value) === 1);

/** How pixels are normalised, in a few words. @param normalisation null: inside the network, and nobody can say how */
export function describeNormalisation(
  normalisation: Normalisation | null,
  preprocessing: Preprocessing | null,
): string {
  if (normalisation === null) return 'inside the network';
  const inside = preprocessing?.inside ?? null;
  if (inside !== null && preprocessing?.source === 'recognised')
    return `inside the file: ${formula(inside, inside.range)}`;
  const again = inside === null ? '' : ', and again inside the file';
  return `${areBytes(normalisation) ? 'pixels of 0…255, as they are' : formula(normalisation, 1)}${again}`;
}

export const describeChannelOrder = (order: ChannelOrder): string =>
  order === 'rgb' ? 'red, green, blue' : 'blue, green, red';
