/** Correcting what is known of an image: why somebody does it, and what is asked before it is done. */
import { z } from 'zod';

/** Why an image is corrected: said in the audit trail, where no free text about a person may stand. */
export const correctionReasons = {
  'typing-error': 'It was typed or imported wrongly',
  'wrong-person': 'The image shows another person',
  'new-finding': 'There is a new finding, such as another diagnosis',
  'better-division': 'Training and held-out images should be divided otherwise',
  other: 'Another reason, described below',
} as const;
export type CorrectionReason = keyof typeof correctionReasons;
export const correctionReasonSchema = z.enum(
  Object.keys(correctionReasons) as [CorrectionReason, ...CorrectionReason[]],
);

/** What a person must have seen before a correction is done. */
export const correctionQuestionSchema = z.enum([
  'label-not-in-run',
  'label-new',
  'other-split',
  'was-trained',
  'without-consent',
  'used-again',
]);
export type CorrectionQuestionKind = z.infer<typeof correctionQuestionSchema>;

/** Longest note of a person, in characters. */
export const maxCorrectionNote = 400;
const pseudonym = z.string().min(1).max(200);

/**
 * One act of correction: images of one subject get another label, another subject, or (the subject as a whole) another
 * split.
 */
export const correctionSchema = z
  .strictObject({
    pseudonym,
    /** Ids of images; all of the subject's when absent. */
    images: z.array(z.int().positive()).min(1).max(1000).optional(),
    label: z.string().trim().min(1).max(200).optional(),
    /** Pseudonym of the subject that the images show. */
    subject: pseudonym.optional(),
    split: z.enum(['train', 'test']).optional(),
    reason: correctionReasonSchema,
    note: z.string().trim().max(maxCorrectionNote).optional(),
    /** Questions that the person has answered with yes. */
    confirmed: z.array(correctionQuestionSchema).max(10).default([]),
  })
  .refine(
    ({ label, subject, split }) => label !== undefined || subject !== undefined || split !== undefined,
    {
      message: 'say what is to be corrected: label, subject or split',
    },
  )
  .refine(
    ({ split, images, subject }) => split === undefined || (images === undefined && subject === undefined),
    {
      message: 'a subject is for training or held out as a whole',
      path: ['split'],
    },
  )
  .refine(({ reason, note }) => reason !== 'other' || (note ?? '') !== '', {
    message: 'describe the other reason',
    path: ['note'],
  });
export type Correction = z.output<typeof correctionSchema>;
export type CorrectionInput = z.input<typeof correctionSchema>;
