/** What the face detector and its worker thread say to each other. */
import { z } from 'zod';

const pointSchema = z.object({ x: z.number(), y: z.number() });

export const faceSchema = z.object({
  box: z.object({ x: z.number(), y: z.number(), width: z.number(), height: z.number() }),
  landmarks: z.array(pointSchema).length(68),
  score: z.number(),
});

export const faceRequestSchema = z.object({
  id: z.int(),
  width: z.int().positive(),
  height: z.int().positive(),
  /** RGB, 8 bit; the buffer is transferred, not copied. */
  data: z.instanceof(Uint8Array) as z.ZodType<Uint8Array>,
});

export const faceReplySchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready') }),
  z.object({ type: z.literal('faces'), id: z.int(), faces: z.array(faceSchema) }),
  z.object({ type: z.literal('failed'), id: z.int().nullable(), message: z.string() }),
]);

export type FaceRequest = z.infer<typeof faceRequestSchema>;
export type FaceReply = z.infer<typeof faceReplySchema>;
