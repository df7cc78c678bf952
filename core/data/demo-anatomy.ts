/**
 * The shape of an invented face. The phenotypes of the demo are made up for it and stand for no condition
 * that people have.
 */
import type { Random } from '../shared/random.ts';

/** Departures from a plain facesjs face, in units of its 400 × 600 canvas, degrees, or as factors. */
export interface Anatomy {
  /** Units that each eye lies further out. */
  eyeSpacing: number;
  eyeScale: number;
  /** Degrees that the outer corners are raised. */
  eyeTilt: number;
  noseLength: number;
  noseWidth: number;
  /** Units that the mouth lies lower. */
  philtrum: number;
  mouthWidth: number;
  earScale: number;
  /** Units that the ears lie lower. */
  earDrop: number;
  headWidth: number;
}

type Trait = keyof Anatomy;

/** Mean and standard deviation of each trait among unaffected people. */
const ordinary: Record<Trait, { mean: number; spread: number }> = {
  eyeSpacing: { mean: 0, spread: 2.5 },
  eyeScale: { mean: 1, spread: 0.05 },
  eyeTilt: { mean: 0, spread: 3 },
  noseLength: { mean: 1, spread: 0.07 },
  noseWidth: { mean: 1, spread: 0.07 },
  philtrum: { mean: 0, spread: 3.5 },
  mouthWidth: { mean: 1, spread: 0.07 },
  earScale: { mean: 1, spread: 0.08 },
  earDrop: { mean: 0, spread: 5 },
  headWidth: { mean: 1, spread: 0.025 },
};

/**
 * How far each class lies from the unaffected mean, in standard deviations. Most traits that are moved are
 * moved in two classes, so that no single measure tells the classes apart. The sizes are chosen so that a
 * head on the frozen base network gets about 7 images in 10 right, and one with LoRA 9 or more.
 */
export const demoClasses: Readonly<Record<string, Partial<Record<Trait, number>>>> = {
  unaffected: {},
  'invented-alder': { eyeSpacing: 4.6, philtrum: 4, earDrop: 3.5, noseLength: -2.3, headWidth: 2.3 },
  'invented-birch': { eyeSpacing: -4, eyeTilt: 4, mouthWidth: -4, headWidth: -2.3, earDrop: 2.3 },
  'invented-cedar': { eyeScale: -4.6, philtrum: -2.9, mouthWidth: 4, noseWidth: 4.6, eyeTilt: -2.9 },
};

/** The anatomy of one person of a class. */
export function drawAnatomy(label: string, random: Random): Anatomy {
  const shift = demoClasses[label];
  if (!shift) throw new RangeError(`no demo class is called "${label}"`);
  const traits = Object.entries(ordinary) as [Trait, { mean: number; spread: number }][];
  return Object.fromEntries(
    traits.map(([trait, { mean, spread }]) => [
      trait,
      // Beyond two deviations nature is cut off: a face must stay a face.
      mean + spread * ((shift[trait] ?? 0) + Math.max(-2, Math.min(2, random.normal()))),
    ]),
  ) as unknown as Anatomy;
}
