/** What the face detector and its processes say to each other. Both ends parse it with these schemas. */
import { z } from 'zod';
import { faceSchema } from '../../data/faces.ts';
import { errorReportSchema } from '../../shared/errors.ts';

const side = z.int().min(1).max(4096);

/** One image: RGB, 8 bit, row by row. */
export const faceRequestSchema = z
  .strictObject({
    id: z.int().nonnegative(),
    width: side,
    height: side,
    data: z.instanceof(Uint8Array) as z.ZodType<Uint8Array>,
    look: z.discriminatedUnion('for', [
      /** Every face; least side of one as a share of the image's longer side. */
      z.strictObject({ for: z.literal('faces'), smallestFace: z.number().min(0.005).max(1) }),
      /** The landmarks of a face that was found: its box, in pixels of this image. */
      z.strictObject({ for: z.literal('landmarks'), box: faceSchema.shape.box }),
    ]),
  })
  .refine(({ width, height, data }) => data.length === 3 * width * height, 'pixels are missing');
export type FaceRequest = z.infer<typeof faceRequestSchema>;

/** `ready` once the networks run; then an answer to every request. */
export const faceReplySchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('ready') }),
  z.strictObject({ type: z.literal('faces'), id: z.int(), faces: z.array(faceSchema).max(1_000) }),
  /** `id` is null when the networks could not be started. */
  z.strictObject({ type: z.literal('failed'), id: z.int().nullable(), error: errorReportSchema }),
]);
export type FaceReply = z.infer<typeof faceReplySchema>;
