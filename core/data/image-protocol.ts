/** What the reader of rarer image formats and its worker thread say to each other. */
import { z } from 'zod';

export const foreignFormats = ['bmp', 'pnm', 'heic', 'dicom'] as const;
export type ForeignFormat = (typeof foreignFormats)[number];

const bytes = z.instanceof(Uint8Array) as z.ZodType<Uint8Array<ArrayBuffer>>;

export const imageRequestSchema = z.strictObject({
  id: z.int(),
  format: z.enum(foreignFormats),
  /** Moved, not copied. */
  bytes,
  maxPixels: z.int().positive(),
});

const common = {
  id: z.int(),
  icc: bytes.nullable(),
  turn: z.literal([0, 90, 180, 270]),
  notes: z.array(z.string().max(100)).max(5),
};

export const imageReplySchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('pixels'),
    ...common,
    width: z.int().positive(),
    height: z.int().positive(),
    /** RGB, 8 bit. */
    data: bytes,
  }),
  /** A JPEG that was inside, for the image library. */
  z.strictObject({ type: z.literal('jpeg'), ...common, bytes }),
  z.strictObject({
    type: z.literal('refused'),
    id: z.int(),
    /** What goes on from "it …"; the caller names the file. */
    refusal: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('damaged') }),
      z.strictObject({
        kind: z.literal('unsupported'),
        what: z.string().max(300),
        action: z.string().max(300).optional(),
      }),
      z.strictObject({ kind: z.literal('too-many-pixels'), width: z.int(), height: z.int() }),
    ]),
  }),
]);

export type ImageRequest = z.infer<typeof imageRequestSchema>;
export type ImageReply = z.infer<typeof imageReplySchema>;
export type Refusal = Extract<ImageReply, { type: 'refused' }>['refusal'];
