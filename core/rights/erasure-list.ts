/**
 * The list of erasures: what was erased here, by keyed hash, in a small file that is kept apart from the backups. Who restores
 * an older backup gives it the newest list, so that nobody who was erased comes back. It names nobody: only the data folder,
 * or a backup of it, has the key.
 */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { jsonText } from '../shared/text.ts';
import { readNamedFile } from '../store/atomic-file.ts';
import { erasedAction } from '../store/audit.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

const tombstoneSchema = z.strictObject({
  /** Keyed hash of the pseudonym (`subjects.refOf`). */
  subject: sha256Schema,
  /** When the erasure was asked for, ISO 8601 UTC; null where only the hash is known. */
  askedAt: z.iso.datetime().nullable(),
});
export type Tombstone = z.infer<typeof tombstoneSchema>;

const listSchema = z.strictObject({
  anneal: z.literal('erasures'),
  version: z.literal(1),
  writtenAt: z.iso.datetime(),
  erasures: z.array(tombstoneSchema).max(1_000_000),
});
export type ErasureList = z.infer<typeof listSchema>;

export function erasureList(store: Pick<Store, 'erasures' | 'now'>): ErasureList {
  const erasures = store.erasures.list().map(({ subjectRef, askedAt }) => ({ subject: subjectRef, askedAt }));
  return { anneal: 'erasures', version: 1, writtenAt: store.now(), erasures };
}

/** Of an evidence bundle, the lines that matter here; whoever wrote them can only have somebody erased whose hash they know. */
const bundleLine = z.object({
  section: z.literal('audit'),
  row: z.object({ action: z.literal(erasedAction), at: z.iso.datetime(), details: z.string() }),
});
const bundleHeader = z.object({ anneal: z.literal('evidence') });
const erasedDetails = z.object({ subject: sha256Schema });

const mostBytes = 512 * 2 ** 20;

/**
 * @param file a list, or an evidence bundle of the same site ("anneal audit export")
 * @throws AppError FILE_UNREADABLE
 */
export async function readErasures(file: string): Promise<Tombstone[]> {
  const text = (await readNamedFile(file, mostBytes)).toString('utf8');
  const list = jsonText.pipe(listSchema).safeParse(text).data;
  if (list !== undefined) return list.erasures;
  const [first = '', ...lines] = text.split('\n');
  if (!jsonText.pipe(bundleHeader).safeParse(first).success)
    throw new AppError('FILE_UNREADABLE', 'The file is no list of erasures and no evidence bundle.', {
      action: 'Give a file that "anneal consent erasures" or "anneal audit export" wrote.',
    });
  return lines.flatMap((line) => {
    if (!line.includes(erasedAction)) return [];
    const row = jsonText.pipe(bundleLine).safeParse(line).data?.row;
    const subject = jsonText.pipe(erasedDetails).safeParse(row?.details).data?.subject;
    return row === undefined || subject === undefined ? [] : [{ subject, askedAt: row.at }];
  });
}

/**
 * Whom of those that are here an erasure names that this store has not heard of. A later one of somebody who came back after
 * an earlier one counts; one that is on record here is done.
 */
export function subjectsToErase(
  store: Pick<ReadOnlyStore, 'subjects' | 'erasures'>,
  tombstones: readonly Tombstone[],
  /** The moment that the store shows. */
  madeAt: string,
): string[] {
  const known = new Set(store.erasures.list().map(({ subjectRef, askedAt }) => `${subjectRef} ${askedAt}`));
  const unheard = tombstones.filter(
    ({ subject, askedAt }) => askedAt === null || (askedAt > madeAt && !known.has(`${subject} ${askedAt}`)),
  );
  const refs = new Set(unheard.map(({ subject }) => subject));
  return store.subjects.pseudonyms().filter((pseudonym) => refs.has(store.subjects.refOf(pseudonym)));
}
