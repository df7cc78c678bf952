/** Whether a copy of the database is whole, and what it names; in a thread of its own, since a long trail takes seconds. */
import { Worker } from 'node:worker_threads';
import { z } from 'zod';
import { AppError, errorReportSchema } from '../shared/errors.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';

export const databaseCheckSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('checked'),
    /** Null when all of it fits; else the first row that does not. */
    brokenAtSeq: z.int().nullable(),
    consentsFit: z.boolean(),
    auditRows: z.int(),
    /** Hash of the newest audit row. */
    auditHead: sha256Schema,
    /** Blobs that a row holds. */
    held: z.array(sha256Schema),
  }),
  z.strictObject({ kind: z.literal('failed'), error: errorReportSchema }),
]);
export type DatabaseCheck = Extract<z.infer<typeof databaseCheckSchema>, { kind: 'checked' }>;

/**
 * Opens the file, which nobody else has open, and brings it to the newest version.
 * @throws AppError DATABASE_DAMAGED | DATABASE_NEWER | DISK_FULL
 */
export async function checkDatabase(file: string): Promise<DatabaseCheck> {
  const worker = new Worker(new URL('./check-database-worker.ts', import.meta.url), { workerData: file });
  try {
    const answer = databaseCheckSchema.parse(await answerOf(worker));
    if (answer.kind === 'failed') throw AppError.fromReport(answer.error);
    return answer;
  } finally {
    await worker.terminate();
  }
}

/** Also when the thread dies without one, for want of memory for instance. */
const answerOf = (worker: Worker) =>
  new Promise<unknown>((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
    worker.once('exit', () => reject(new Error('the check of the database ended without an answer')));
  });
