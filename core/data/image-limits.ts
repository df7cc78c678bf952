/** The limits that a site's policy sets to the quality of a face, applied. */
import type { ImageLimits } from '../config/site-policy.ts';
import { plural } from '../shared/text.ts';
import type { ImageQuality } from '../store/records.ts';

interface Limit {
  rule: keyof ImageLimits;
  /** Null where it could not be measured: that is never held against an image. */
  figure(quality: ImageQuality): number | null;
  isLeast: boolean;
  words(figure: number, limit: number): string;
}

const percent = (share: number) => `${Math.round(share * 100)} %`;
const turnedBy = (direction: string) => (figure: number, limit: number) =>
  `the head is ${direction} by ${Math.round(figure)}°; at most ${limit}° are allowed`;
const absolute = (degrees: number | null) => (degrees === null ? null : Math.abs(degrees));

const limits: readonly Limit[] = [
  {
    rule: 'minFacePixels',
    figure: ({ facePixels }) => facePixels,
    isLeast: true,
    words: (figure, limit) => `the face is ${plural(figure, 'pixel')} wide; at least ${limit} are asked for`,
  },
  {
    rule: 'minSharpness',
    figure: ({ sharpness }) => sharpness,
    isLeast: true,
    words: (figure, limit) => `the face is blurred: sharpness ${figure}; at least ${limit} is asked for`,
  },
  {
    rule: 'maxBlackShare',
    figure: ({ blackShare }) => blackShare,
    isLeast: false,
    words: (figure, limit) => `${percent(figure)} of the face is black; at most ${percent(limit)} is allowed`,
  },
  {
    rule: 'maxWhiteShare',
    figure: ({ whiteShare }) => whiteShare,
    isLeast: false,
    words: (figure, limit) => `${percent(figure)} of the face is white; at most ${percent(limit)} is allowed`,
  },
  { rule: 'maxRoll', figure: ({ roll }) => absolute(roll), isLeast: false, words: turnedBy('tilted') },
  { rule: 'maxYaw', figure: ({ yaw }) => absolute(yaw), isLeast: false, words: turnedBy('turned aside') },
  {
    rule: 'maxPitch',
    figure: ({ pitch }) => absolute(pitch),
    isLeast: false,
    words: turnedBy('raised or lowered'),
  },
];

/** @returns every limit that the face does not keep, with figure and limit, in words; null when it keeps all */
export function brokenLimits(quality: ImageQuality, allowed: ImageLimits): string | null {
  const broken = limits.flatMap(({ rule, figure, isLeast, words }) => {
    const measured = figure(quality);
    const limit = allowed[rule];
    if (measured === null || (isLeast ? measured >= limit : measured <= limit)) return [];
    return [words(measured, limit)];
  });
  return broken.length === 0 ? null : broken.join('; ');
}
