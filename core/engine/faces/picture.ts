/** A photograph at several sizes, from which windows are sampled. */
import type { RgbImage } from '../../data/rgb-image.ts';
import { normalisePixel } from '../../models/mtcnn.ts';

/** Planes of red, green and blue, normalised as the networks take them. */
interface Planes {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
}

/** A square in pixels of the photograph; `left` and `top` are its outer edges, the first pixel spanning 0 to 1. */
export interface Window {
  readonly left: number;
  readonly top: number;
  readonly side: number;
}

export interface Picture {
  /**
   * Writes planes [3, height, width] of a part of the photograph, which may reach over its border: there all is middle grey.
   * @param step pixels of the photograph for each one written
   */
  sample(left: number, top: number, step: number, width: number, height: number, target: Float32Array): void;
}

/** Each half as wide as the one before it; reducing by at most two, bilinear samples leave nothing out. */
export function createPicture(image: RgbImage): Picture {
  const sizes = [planesOf(image)];
  const sizeFor = (step: number): { planes: Planes; factor: number } => {
    let index = 0;
    // Up to a step of 1.5 the four neighbours see every pixel.
    while (step / 2 ** index > 1.5) {
      index += 1;
      const last = sizes.at(-1)!;
      if (index === sizes.length) {
        if (last.width < 2 || last.height < 2) {
          index -= 1;
          break;
        }
        sizes.push(halved(last));
      }
    }
    return { planes: sizes[index]!, factor: 2 ** index };
  };
  return {
    sample(left, top, step, width, height, target) {
      const { planes, factor } = sizeFor(step);
      samplePlanes(planes, left / factor, top / factor, step / factor, width, height, target);
    },
  };
}

function planesOf({ width, height, data }: RgbImage): Planes {
  const area = width * height;
  const planes = new Float32Array(3 * area);
  for (let at = 0, from = 0; at < area; at++, from += 3) {
    planes[at] = normalised[data[from]!]!;
    planes[area + at] = normalised[data[from + 1]!]!;
    planes[2 * area + at] = normalised[data[from + 2]!]!;
  }
  return { width, height, data: planes };
}

const normalised = Float32Array.from({ length: 256 }, (_, value) => normalisePixel(value));

/** Means of 2 × 2 pixels; an odd last row or column is left out. */
function halved({ width, height, data }: Planes): Planes {
  const [w, h] = [width >> 1, height >> 1];
  const half = new Float32Array(3 * w * h);
  let to = 0;
  for (let plane = 0; plane < 3; plane++) {
    for (let y = 0; y < h; y++) {
      let from = plane * width * height + 2 * y * width;
      for (let x = 0; x < w; x++, from += 2)
        half[to++] = (data[from]! + data[from + 1]! + data[from + width]! + data[from + width + 1]!) / 4;
    }
  }
  return { width: w, height: h, data: half };
}

function samplePlanes(
  { width, height, data }: Planes,
  left: number,
  top: number,
  step: number,
  columns: number,
  rows: number,
  target: Float32Array,
): void {
  const plane = width * height;
  const area = columns * rows;
  target.fill(0, 0, 3 * area);
  for (let v = 0; v < rows; v++) {
    const y = top + (v + 0.5) * step - 0.5;
    if (y <= -1 || y >= height) continue;
    const y0 = Math.floor(y);
    const down = y - y0;
    const [above, below] = [y0 >= 0 ? 1 - down : 0, y0 + 1 < height ? down : 0];
    const row0 = Math.max(0, y0) * width;
    const row1 = Math.min(height - 1, y0 + 1) * width;
    for (let u = 0; u < columns; u++) {
      const x = left + (u + 0.5) * step - 0.5;
      if (x <= -1 || x >= width) continue;
      const x0 = Math.floor(x);
      const right = x - x0;
      const [before, after] = [x0 >= 0 ? 1 - right : 0, x0 + 1 < width ? right : 0];
      const column0 = Math.max(0, x0);
      const column1 = Math.min(width - 1, x0 + 1);
      const at = v * columns + u;
      for (let channel = 0; channel < 3; channel++) {
        const base = channel * plane;
        target[channel * area + at] =
          above * (before * data[base + row0 + column0]! + after * data[base + row0 + column1]!) +
          below * (before * data[base + row1 + column0]! + after * data[base + row1 + column1]!);
      }
    }
  }
}
