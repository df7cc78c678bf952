/** One image of an invented person: pose, expression, light, colour, blur and noise, all but the class. */
import { svgsIndex } from 'facesjs';
import sharp from 'sharp';
import { createRandom, type Random } from '../shared/random.ts';
import { drawPortrait, type Expression, type Pose } from './demo-drawing.ts';
import { type DemoPerson, hsl } from './demo-person.ts';

export interface DemoImage {
  bytes: Uint8Array;
  extension: 'jpg' | 'png';
}

const within = (random: Random, spread: number) => (random.uniform() * 2 - 1) * spread;
const between = (random: Random, low: number, high: number) => low + (high - low) * random.uniform();

function drawPose(random: Random): Pose {
  const size = between(random, 0.88, 1.12);
  return {
    roll: within(random, 14),
    turn: { x: within(random, 9), y: within(random, 7) },
    shear: within(random, 5),
    scale: { x: size * between(random, 0.95, 1.05), y: size * between(random, 0.95, 1.05) },
    shift: { x: within(random, 16), y: within(random, 16) },
  };
}

function drawExpression(person: DemoPerson, random: Random): Expression {
  const same = random.uniform() < 0.5;
  return {
    mouth: same ? person.face.mouth.id : svgsIndex.mouth[random.integer(svgsIndex.mouth.length)]!,
    mouthFlip: random.uniform() < 0.5,
    browAngle: person.face.eyebrow.angle + within(random, 5),
  };
}

function drawBackground(random: Random): string {
  const colour = () => hsl(between(random, 0, 360), between(random, 0, 0.5), between(random, 0.15, 0.9));
  const shapes = Array.from({ length: random.integer(5) }, () => {
    const [x, y, r] = [random.uniform() * 100, random.uniform() * 100, between(random, 5, 35)];
    return random.uniform() < 0.5
      ? `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="${r.toFixed(1)}" fill="${colour()}"/>`
      : `<rect x="${(x - r).toFixed(1)}" y="0" width="${r.toFixed(1)}" height="100" fill="${colour()}"/>`;
  });
  return `<rect width="100" height="100" fill="${colour()}"/>${shapes.join('')}`;
}

/** Standard normal values, drawn once: an image's noise is a stretch of it, from a random start. */
const noiseTable = (() => {
  const random = createRandom(20_260_101);
  return Float32Array.from({ length: 1 << 17 }, () => random.normal());
})();

interface Light {
  gain: [number, number, number];
  offset: number;
  /** Change of the gain from one border to the other, and the direction it goes in (radians). */
  slope: number;
  direction: number;
  noise: number;
}

function drawLight(random: Random): Light {
  const brightness = between(random, 0.65, 1.2);
  const contrast = between(random, 0.7, 1.15);
  const gain = [0, 0, 0].map(() => brightness * contrast * between(random, 0.85, 1.15));
  return {
    gain: gain as [number, number, number],
    offset: 128 * (1 - contrast) * brightness,
    slope: between(random, 0, 0.8),
    direction: between(random, 0, 2 * Math.PI),
    noise: between(random, 2, 12),
  };
}

/** Applies light and noise in place; `pixels` is RGB, `size` × `size`. */
function expose(pixels: Uint8Array, size: number, light: Light, random: Random): void {
  const [dx, dy] = [Math.cos(light.direction) * light.slope, Math.sin(light.direction) * light.slope];
  const mask = noiseTable.length - 1;
  let noise = random.integer(noiseTable.length);
  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const slope = 1 + dx * (x / size - 0.5) + dy * (y / size - 0.5);
      for (let channel = 0; channel < 3; channel++, at++) {
        noise = (noise + 1) & mask;
        const value =
          pixels[at]! * light.gain[channel]! * slope + light.offset + light.noise * noiseTable[noise]!;
        pixels[at] = Math.min(255, Math.max(0, value));
      }
    }
  }
}

/** One image of a person before it becomes a file: RGB, 8 bit, `size` × `size`. */
export async function drawImage(person: DemoPerson, size: number, random: Random): Promise<Uint8Array> {
  const svg = drawPortrait(
    person,
    drawPose(random),
    drawExpression(person, random),
    drawBackground(random),
    size,
  );
  const blur = between(random, 0, 1.2);
  const drawn = sharp(Buffer.from(svg)).removeAlpha();
  const pixels = await (blur < 0.3 ? drawn : drawn.blur(blur)).raw().toBuffer();
  expose(pixels, size, drawLight(random), random);
  return pixels;
}

/** Takes one image of a person; about two in three are JPEG files, the others PNG. */
export async function takeImage(person: DemoPerson, size: number, random: Random): Promise<DemoImage> {
  const pixels = await drawImage(person, size, random);
  const image = sharp(pixels, { raw: { width: size, height: size, channels: 3 } });
  if (random.uniform() < 0.34) return { bytes: await image.png().toBuffer(), extension: 'png' };
  const quality = 70 + random.integer(26);
  return { bytes: await image.jpeg({ quality }).toBuffer(), extension: 'jpg' };
}
