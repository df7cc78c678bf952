/** A number of images, and limits that all counts of an evaluation share. */
import { z } from 'zod';

/** Runs may have more classes; their evaluations count right answers only. */
export const maxCountedClasses = 1000;

/** No hospital holds more images. What a site claims beyond that is no number of images. */
export const maxImages = 10_000_000;
export const imageCount = z.int().nonnegative().max(maxImages);

/** A figure's right answers and the images of the sites that released them. */
export interface Share {
  total: number;
  correct: number;
}
