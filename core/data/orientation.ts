/** Turning and mirroring images: what cameras leave to the viewer. */
import type { RgbImage } from './rgb-image.ts';

/** As in EXIF: 1 upright, 2 mirrored, 3 half a turn, 4 upside down mirrored, 5 and 7 mirrored on their side, 6 and 8 on their side. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** Quarter turns clockwise, as an orientation. */
export const quarterTurns = { 0: 1, 90: 6, 180: 3, 270: 8 } as const satisfies Record<number, Orientation>;
export type Turn = keyof typeof quarterTurns;

/** The image as it is meant to be seen. */
export function uprightImage(image: RgbImage, orientation: Orientation): RgbImage {
  if (orientation === 1) return image;
  const { width, height, data } = image;
  const isOnItsSide = orientation > 4;
  const [newWidth, newHeight] = isOnItsSide ? [height, width] : [width, height];
  const turned = new Uint8Array(data.length);
  // Where the pixel at the top left comes from, and how far apart its neighbours to the right and below lie there.
  const right = width - 1;
  const below = (height - 1) * width;
  const [start, alongX, alongY] = (
    {
      2: [right, -1, width],
      3: [right + below, -1, -width],
      4: [below, 1, -width],
      5: [0, width, 1],
      6: [below, -width, 1],
      7: [right + below, -width, -1],
      8: [right, width, -1],
    } as const
  )[orientation];
  let to = 0;
  for (let y = 0; y < newHeight; y++) {
    let from = (start + y * alongY) * 3;
    for (let x = 0; x < newWidth; x++, to += 3, from += alongX * 3) {
      turned[to] = data[from]!;
      turned[to + 1] = data[from + 1]!;
      turned[to + 2] = data[from + 2]!;
    }
  }
  return { width: newWidth, height: newHeight, data: turned };
}

/** `tiff:Orientation` of an XMP packet, as an attribute or an element; null for none. */
export function xmpOrientation(xmp: string): Orientation | null {
  const value = Number(/tiff:Orientation\s*(?:=\s*["']|>\s*)([1-8])\b/.exec(xmp)?.[1]);
  return value >= 1 ? (value as Orientation) : null;
}
