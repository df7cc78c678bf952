/** What the decoders of rarer formats give: unpacked samples, or why there are none. */
import type { Refusal } from './image-protocol.ts';

/** Samples row by row, interleaved. */
export interface RawImage {
  width: number;
  height: number;
  channels: 1 | 3;
  samples: Uint8Array | Uint16Array;
  /** The sample value that stands for white: 255, 4095, 65535… */
  white: number;
}

/** What a person should know of how a file was read, for instance "first of 3 pages". */
export type ReadingNotes = string[];

/** 8-bit RGB of raw samples. Values over white count as white. */
export function toRgb8({ width, height, channels, samples, white }: RawImage): Uint8Array {
  const pixels = width * height;
  const rgb = new Uint8Array(pixels * 3);
  const scale = 255 / white;
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const sample = samples[pixel * channels + (channels === 3 ? channel : 0)]!;
      rgb[pixel * 3 + channel] = Math.min(255, Math.round(sample * scale));
    }
  }
  return rgb;
}

/** Thrown by a decoder when bytes are missing or contradict each other. */
export class DamagedImage extends Error {}

/** Thrown for a valid file that Anneal does not read. `what` goes on from "it is …". */
export class UnsupportedImage extends Error {
  readonly action: string | undefined;
  constructor(what: string, action?: string) {
    super(what);
    this.action = action;
  }
}

/** Thrown before anything is unpacked. */
export class TooManyPixels extends Error {
  readonly width: number;
  readonly height: number;
  constructor(width: number, height: number) {
    super(`${width} × ${height}`);
    this.width = width;
    this.height = height;
  }
}

/** @throws DamagedImage for no pixels at all, TooManyPixels */
export function checkSize(width: number, height: number, maxPixels: number): void {
  if (!(width >= 1 && height >= 1)) throw new DamagedImage('no pixels');
  if (width * height > maxPixels) throw new TooManyPixels(width, height);
}

/** Anything else that a decoder throws comes from bytes that it did not expect. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof UnsupportedImage)
    return { kind: 'unsupported', what: error.message, ...(error.action && { action: error.action }) };
  if (error instanceof TooManyPixels)
    return { kind: 'too-many-pixels', width: error.width, height: error.height };
  return { kind: 'damaged' };
}
