/** What the agent and the process of a leak test say to each other. Both ends parse it with these schemas. */
import { z } from 'zod';
import { alignmentSchema } from '../config/alignment.ts';
import { leakReportSchema } from '../config/leak-report.ts';
import { errorReportSchema } from '../shared/errors.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';

const name = z.string().min(1).max(4_096);

/** A model of the catalogue, or the files of one that is being imported. */
export const leakRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('installed'), id: name, modelsFolder: name.optional() }),
  z.strictObject({
    kind: z.literal('files'),
    folder: name,
    model: z.strictObject({
      id: name,
      licence: z.string(),
      format: z.enum(['vit', 'onnx']),
      options: z.record(z.string(), z.unknown()),
      alignment: alignmentSchema.optional(),
      files: z.array(z.object({ name })).min(1).max(10_000).readonly(),
    }),
  }),
]);
export type LeakRequest = z.infer<typeof leakRequestSchema>;

export const leakReplySchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('progress'),
    step: z.enum(['drawing faces', 'computing embeddings', 'rebuilding faces']),
    share: z.number().min(0).max(1),
  }),
  /** `sha256`: identity of the model that was measured. */
  z.strictObject({
    type: z.literal('done'),
    sha256: sha256Schema,
    report: leakReportSchema,
  }),
  z.strictObject({ type: z.literal('failed'), error: errorReportSchema }),
]);
export type LeakReply = z.infer<typeof leakReplySchema>;

/** What is done so far. `share` is of all that has to be done, 0…1. */
export type LeakProgress = Omit<Extract<LeakReply, { type: 'progress' }>, 'type'>;
