/**
 * How the square picture that a base model takes is cut out of a photograph. Every network for faces was trained on faces in one
 * place and one size, and is far worse on others (docs/models.md has figures), so alignment belongs to a base model and is part
 * of its identity.
 */
import { z } from 'zod';

/**
 * `dlib-150`: eyes, nose and mouth where dlib's network expects them in 150 × 150 pixels. `arcface-112`: the five-point template
 * of ArcFace's training sets, 112 × 112. `box`: the square around the detector's box, not turned. `none`: the region that the
 * import keeps around a face, as it is. All of them at the base's own input size.
 */
export const alignments = ['dlib-150', 'arcface-112', 'box', 'none'] as const;
export const alignmentSchema = z.enum(alignments);
export type Alignment = z.infer<typeof alignmentSchema>;

/** What every base model got before alignment was part of one. */
export const originalAlignment: Alignment = 'dlib-150';

const words: Readonly<Record<Alignment, string>> = {
  'dlib-150': "eyes, nose and mouth in the places of dlib's template",
  'arcface-112': "eyes, nose and mouth in the places of ArcFace's five-point template",
  box: "the detector's box, not turned",
  none: 'the whole region around the face, not aligned',
};

/** "arcface-112 (eyes, nose and mouth …)" */
export const describeAlignment = (alignment: Alignment): string => `${alignment} (${words[alignment]})`;
