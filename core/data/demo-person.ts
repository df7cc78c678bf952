/** One invented person: everything about a cartoon face that stays the same from image to image. */
import { type FaceConfig, svgsIndex } from 'facesjs';
import type { Random } from '../shared/random.ts';
import { type Anatomy, drawAnatomy } from './demo-anatomy.ts';

export interface DemoPerson {
  anatomy: Anatomy;
  face: FaceConfig;
}

/** Parts that would hide what the classes differ in. */
const hiding = new Set(['hat', 'hat2', 'hat3', 'santa-hat', 'facemask', 'pinocchio', 'honker', 'nose4']);

type Part = keyof typeof svgsIndex;

const pick = (random: Random, part: Part): string => {
  const choices = svgsIndex[part].filter((id) => !hiding.has(id) && id !== 'none');
  return choices[random.integer(choices.length)]!;
};
const maybe = (random: Random, part: Part, probability: number): string =>
  random.uniform() < probability ? pick(random, part) : 'none';
const between = (random: Random, low: number, high: number) => low + (high - low) * random.uniform();

const skinLightness = [0.86, 0.8, 0.72, 0.62, 0.5, 0.38] as const;

function skinColour(random: Random): string {
  const lightness = skinLightness[random.integer(skinLightness.length)]!;
  return hsl(between(random, 12, 32), between(random, 0.3, 0.55), lightness + between(random, -0.04, 0.04));
}

function hairColour(random: Random): string {
  const grey = random.uniform() < 0.15;
  return hsl(
    between(random, 8, 48),
    grey ? 0.03 : between(random, 0.15, 0.6),
    between(random, 0.08, grey ? 0.8 : 0.55),
  );
}

/** `saturation` and `lightness` in [0, 1]; `hue` in degrees. */
export function hsl(hue: number, saturation: number, lightness: number): string {
  const channel = (offset: number) => {
    const k = (offset + hue / 30) % 12;
    const value =
      lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(Math.max(0, Math.min(1, value)) * 255)
      .toString(16)
      .padStart(2, '0');
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}

/**
 * Draws a person of a class. Everything but the anatomy is independent of the class. facesjs's own
 * generator draws from `Math.random`, so the parts are chosen here, from a seed.
 */
export function drawPerson(label: string, random: Random): DemoPerson {
  const anatomy = drawAnatomy(label, random);
  const colours: [string, string, string] = [
    hsl(between(random, 0, 360), 0.6, 0.5),
    hsl(between(random, 0, 360), 0.6, 0.4),
    hsl(between(random, 0, 360), 0.4, 0.3),
  ];
  const face: FaceConfig = {
    fatness: between(random, 0.2, 0.9),
    teamColors: colours,
    hairBg: { id: maybe(random, 'hairBg', 0.35) },
    body: { id: pick(random, 'body'), color: skinColour(random), size: between(random, 0.85, 1.05) },
    jersey: { id: pick(random, 'jersey') },
    ear: { id: pick(random, 'ear'), size: 1 },
    head: { id: pick(random, 'head'), shave: `rgba(0,0,0,${random.uniform() < 0.25 ? 0.15 : 0})` },
    eyeLine: { id: maybe(random, 'eyeLine', 0.5) },
    smileLine: { id: maybe(random, 'smileLine', 0.4), size: between(random, 0.5, 1.5) },
    miscLine: { id: maybe(random, 'miscLine', 0.4) },
    facialHair: { id: maybe(random, 'facialHair', 0.25) },
    eye: { id: pick(random, 'eye'), angle: between(random, -3, 3) },
    eyebrow: { id: pick(random, 'eyebrow'), angle: between(random, -10, 15) },
    hair: { id: pick(random, 'hair'), color: hairColour(random), flip: random.uniform() < 0.5 },
    mouth: { id: pick(random, 'mouth'), flip: random.uniform() < 0.5 },
    nose: { id: pick(random, 'nose'), flip: random.uniform() < 0.5, size: between(random, 0.8, 1) },
    glasses: { id: maybe(random, 'glasses', 0.12) },
    accessories: { id: maybe(random, 'accessories', 0.08) },
  };
  return { anatomy, face };
}
