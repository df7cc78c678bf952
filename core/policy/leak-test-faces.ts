/**
 * The faces of the leak test: always the same invented ones, so that a base model gets the same report on every machine.
 * No person is in them.
 */
import { availableParallelism } from 'node:os';
import pMap from 'p-map';
import { demoLabels } from '../data/demo-faces.ts';
import { drawImage } from '../data/demo-image.ts';
import { drawPerson } from '../data/demo-person.ts';
import { createRandom, mixSeed, type Random } from '../shared/random.ts';

/** Side of a drawn face in pixels; networks that take larger images get it enlarged. A multiple of {@link targetSide}. */
export const faceSide = 96;
/** Side of the grey image that the decoder has to rebuild. */
export const targetSide = 32;

/**
 * Squares along a side of each layer of marks. People share noses and poses in drawings, so a network that tells only
 * which of a few drawn parts a face is made of would seem to rebuild it. No two faces share their marks, which reach
 * from blotches to the size of a target pixel as on skin: a short code can't carry them, and who has the image has them
 * too. Measured without and with them: correlation of ViT-Tiny 0.29 and 0.25, of face-resnet-128 0.21 and 0.20, of a
 * thumbnail of 8 × 8 pixels 0.73 both times; SSIM of the three recognition networks 0.26 to 0.30 and 0.17 to 0.21, of
 * the image itself 0.71 and 0.70.
 */
const markGrids = [4, 8, 16, 32];
/** Standard deviation of each layer of marks, in grey levels of 255. */
const markStrength = 16;

export interface LeakFaces {
  readonly count: number;
  /** RGB, 8 bit, interleaved, {@link faceSide} × {@link faceSide}. */
  image(index: number): Uint8Array;
  /** Grey levels of all faces, row after row: count × {@link targetSide}². */
  readonly targets: Float64Array;
}

export async function drawLeakFaces(count: number, onDrawn: (done: number) => void): Promise<LeakFaces> {
  const size = 3 * faceSide ** 2;
  const pixels = new Uint8Array(count * size);
  const image = (index: number) => pixels.subarray(index * size, (index + 1) * size);
  let done = 0;
  await pMap(
    Array.from({ length: count }, (_, index) => index),
    async (index) => {
      const random = createRandom(mixSeed('leak test', index));
      const person = drawPerson(demoLabels[index % demoLabels.length]!, random);
      image(index).set(await drawImage(person, faceSide, random));
      addMarks(image(index), random);
      onDrawn(++done);
    },
    { concurrency: availableParallelism() },
  );
  const targets = new Float64Array(count * targetSide ** 2);
  for (let index = 0; index < count; index++) {
    writeTarget(image(index), targets.subarray(index * targetSide ** 2, (index + 1) * targetSide ** 2));
  }
  return { count, image, targets };
}

/** Smooth random fields, coarse to fine, added to all three colours in place. */
function addMarks(pixels: Uint8Array, random: Random): void {
  const field = new Float32Array(faceSide ** 2);
  for (const squares of markGrids) addField(field, squares, random);
  for (let at = 0; at < pixels.length; at++) {
    pixels[at] = Math.max(0, Math.min(255, pixels[at]! + field[Math.floor(at / 3)]!));
  }
}

/** Adds normal values at the corners of `squares` × `squares` squares, and what lies between them. */
function addField(field: Float32Array, squares: number, random: Random): void {
  const corners = squares + 1;
  const values = Float32Array.from({ length: corners ** 2 }, () => markStrength * random.normal());
  const places = Array.from({ length: faceSide }, (_, pixel) => {
    const place = ((pixel + 0.5) / faceSide) * squares;
    const before = Math.floor(place);
    return { before, share: place - before };
  });
  for (const [y, row] of places.entries()) {
    for (const [x, column] of places.entries()) {
      const corner = row.before * corners + column.before;
      const top = mix(values[corner]!, values[corner + 1]!, column.share);
      const bottom = mix(values[corner + corners]!, values[corner + corners + 1]!, column.share);
      field[y * faceSide + x]! += mix(top, bottom, row.share);
    }
  }
}

const mix = (a: number, b: number, share: number): number => a + (b - a) * share;

/** Grey means of the squares of pixels that make up a target pixel (weights of ITU-R BT.601). */
function writeTarget(pixels: Uint8Array, target: Float64Array): void {
  const step = faceSide / targetSide;
  target.fill(0);
  for (let y = 0; y < faceSide; y++) {
    for (let x = 0; x < faceSide; x++) {
      const at = 3 * (y * faceSide + x);
      const grey = 0.299 * pixels[at]! + 0.587 * pixels[at + 1]! + 0.114 * pixels[at + 2]!;
      target[Math.floor(y / step) * targetSide + Math.floor(x / step)]! += grey / step ** 2;
    }
  }
}
