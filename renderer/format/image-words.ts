/** What was measured of images, in words. */
import type { AsideKind, DuplicateQuestion, ImageQuality } from '../../core/api/contract.ts';

export const asideWords: Record<AsideKind, string> = {
  'no-face': 'No face found',
  'several-faces': 'Several faces',
  'consent-ended': 'Consent ended',
  damaged: 'Damaged on this disk',
  quality: 'Quality',
  unreadable: 'Cannot be read',
  unsupported: 'Kind of file not read',
  'too-large': 'Too large',
  missing: 'Not in the folder',
  other: 'Other',
};

export const duplicateWords: Record<DuplicateQuestion['kind'], { label: string; question: string }> = {
  'two-subjects': {
    label: 'Two subjects',
    question: 'Is this one person under two pseudonyms? A withdrawal of one would leave the other.',
  },
  'both-splits': {
    label: 'Trained and held out',
    question: 'The held-out one is no test: the model has seen it. Move or remove one of them.',
  },
  'same-split': { label: 'Twice', question: 'The picture counts twice.' },
};

/** The figures that say most, in a line. */
export const qualityWords = ({ facePixels, sharpness }: ImageQuality): string =>
  `face ${Math.round(facePixels)} px · sharpness ${sharpness.toFixed(2)}`;
