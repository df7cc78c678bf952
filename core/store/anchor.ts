/**
 * How far the audit trail has come, kept in a file outside of the database. A database that has lost its end (a damaged log, an
 * older copy put in its place) looks whole by itself: its trail just ends earlier, and consents that were withdrawn since are
 * active again. Against this file it shows.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { jsonText } from '../shared/text.ts';
import type { Sqlite } from './sqlite.ts';

export const anchorName = 'anneal.anchor';

const headSchema = z.strictObject({
  /** Number of the newest row of the trail. */
  seq: z.int().positive(),
  /** Its hash, which stands for all rows before it. */
  hash: z.string().length(64),
});
export type AuditHead = z.infer<typeof headSchema>;
/** A flipped bit of the file itself must not be taken for a fault of the database. */
const fileSchema = z.strictObject({ v: z.literal(1), head: headSchema, check: z.string() });

/** Null when there is none. @throws AppError FILE_DAMAGED */
export function readAnchor(file: string): AuditHead | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as { code?: unknown }).code === 'ENOENT') return null;
    throw damaged(cause);
  }
  const { data } = jsonText.pipe(fileSchema).safeParse(text);
  if (data === undefined || hashJson(data.head) !== data.check) throw damaged();
  return data.head;
}

const damaged = (cause?: unknown) =>
  new AppError(
    'FILE_DAMAGED',
    `The file "${anchorName}", which says how far the audit trail has come, is damaged.`,
    {
      action:
        'Restore the data folder from a backup, and have the disk checked. Without it Anneal cannot tell whether a withdrawal is missing.',
      cause,
    },
  );

/** Whole and on the disk, or as it was. @throws the system's error */
export function writeAnchor(file: string, head: AuditHead): void {
  const temporary = `${file}.${randomUUID()}.tmp`;
  const text = `${JSON.stringify({ v: 1, head, check: hashJson(head) } satisfies z.input<typeof fileSchema>)}\n`;
  try {
    const descriptor = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(descriptor, text);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, file);
  } catch (thrown) {
    rmSync(temporary, { force: true });
    throw thrown;
  }
  syncName(path.dirname(file));
}

function syncName(folder: string): void {
  if (process.platform === 'win32') return;
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Null while the trail is empty. */
export const headOf = (db: Sqlite): AuditHead | null =>
  db.get(headSchema, 'SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1');

/**
 * @throws AppError DATABASE_BEHIND when the trail does not hold the row that the file names
 */
export function checkAnchor(db: Sqlite, file: string): void {
  const anchor = readAnchor(file);
  if (anchor === null) return;
  const row = db.get(headSchema, 'SELECT seq, hash FROM audit WHERE seq = @seq', { seq: anchor.seq });
  if (row?.hash === anchor.hash) return;
  throw new AppError(
    'DATABASE_BEHIND',
    'The database of this data folder lacks what was recorded last: withdrawals may be missing in it.',
  );
}
