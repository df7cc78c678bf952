/** What an erasure leaves behind: a tombstone without any identity. */
import { z } from 'zod';
import { tracedRunSchema } from '../consent/trace.ts';

export const erasedSchema = z.strictObject({
  /** Keyed hash of the pseudonym (`subjects.refOf`). */
  subject: z.string(),
  actor: z.string(),
  askedAt: z.string(),
  images: z.int(),
  /** SHA-256 of each consent event. */
  consents: z.array(z.string()),
  /** Rows deleted, by table. */
  rows: z.record(z.string(), z.int()),
  /** Blobs that nothing holds any more: crops, scans, updates and local parameters of rounds with the subject. */
  files: z.int(),
  /** Rows of the audit trail in which the subject was named. */
  redacted: z.int(),
  /** Versions of models that the subject's images trained or evaluated, and what builds upon them. They are not undone. */
  runs: z.array(tracedRunSchema),
  /** The row of the audit trail that says all this. */
  tombstone: z.strictObject({ seq: z.int(), hash: z.string() }),
});
export type Erased = z.infer<typeof erasedSchema>;
