/** What an import is asked for from outside. */
import { z } from 'zod';
import { tableRequestSchema } from './tables/request.ts';

const path = z.string().trim().min(1).max(4096);

export const importRequestSchema = z.strictObject({
  imagesFolder: path,
  labelsFile: path,
  alreadyCropped: z.boolean(),
  /** What a person says about the table; without it everything has to be clear of itself. */
  table: tableRequestSchema.optional(),
});
export type ImportRequest = z.infer<typeof importRequestSchema>;

/** A list of consents. */
export const consentTableRequestSchema = z.strictObject({ file: path, table: tableRequestSchema.optional() });
