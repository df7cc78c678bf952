/** An image as all of Anneal handles it. */

/** Interleaved RGB, 8 bit, row by row: `data.length === width * height * 3`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}
