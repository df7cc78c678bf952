/** Subjects and their images. */
import { createHmac, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import { createChangeListeners } from './change-listeners.ts';
import type { createSettings } from './federation-tables.ts';

import {
  type AsideKind,
  datasetRecord,
  hashedImage,
  type ImageRecord,
  type ImageStatus,
  imageCount,
  imageRecord,
  type Split,
  subjectRecord,
  subjectSummary,
} from './records.ts';
import {
  asColumns,
  assignments,
  type Defaulted,
  insertSql,
  rowsOf,
  selectList,
  whereSql,
} from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

const countRow = z.object({ count: z.int() });
const idRow = z.object({ id: z.int() });
const labelRow = imageRecord.pick({ label: true });
const sourceNameRow = imageRecord.pick({ sourceName: true });
const storedCrop = imageRecord
  .pick({ id: true, subjectId: true, importedAt: true })
  .extend({ cropSha256: z.string() });
export type StoredCrop = z.infer<typeof storedCrop>;
const atRow = z.object({ at: z.string() });
const keySchema = z.string().regex(/^[\w-]{43}$/);

const isAscii = /^[ -~]*$/;
const pseudonymKeySetting = 'site.pseudonymKey';

export function createSubjects(db: Sqlite, now: () => string, settings: ReturnType<typeof createSettings>) {
  const rows = rowsOf(db, 'subjects', subjectRecord);
  let key: Buffer | null = null;
  function pseudonymKey(): Buffer {
    if (key !== null) return key;
    let text = settings.get(pseudonymKeySetting, keySchema);
    if (text === null) {
      text = randomBytes(32).toString('base64url');
      settings.set(pseudonymKeySetting, text);
    }
    const known = Buffer.from(text, 'base64url');
    // One that a transaction made may come undone with it.
    if (!db.inTransaction) key = known;
    return known;
  }
  const refOf = (pseudonym: string): string =>
    createHmac('sha256', pseudonymKey())
      .update(`anneal subject\n${pseudonym.normalize('NFC')}`)
      .digest('hex');
  const erasedAt = (pseudonym: string): string | null => {
    if (db.get(countRow, 'SELECT count(*) AS count FROM erasures')!.count === 0) return null;
    const erased =
      'SELECT asked_at AS at FROM erasures WHERE subject_ref = @ref AND readmitted_at IS NULL ORDER BY id DESC LIMIT 1';
    return db.get(atRow, erased, { ref: refOf(pseudonym) })?.at ?? null;
  };
  /**
   * Pseudonyms that version 0.1 stored in another form than NFC, by their NFC form: one subject is one subject, however
   * its letters are composed. No new ones come.
   */
  let decomposed: ReadonlyMap<string, string> | null = null;
  function byPseudonym(pseudonym: string): z.output<typeof subjectRecord> | null {
    const exact = rows.get('WHERE pseudonym = @pseudonym', { pseudonym });
    if (exact !== null || isAscii.test(pseudonym)) return exact;
    const composed = pseudonym.normalize('NFC');
    decomposed ??= new Map(
      rows
        .all("WHERE pseudonym GLOB '*[^ -~]*' ORDER BY id DESC")
        .filter((subject) => subject.pseudonym !== subject.pseudonym.normalize('NFC'))
        .map((subject) => [subject.pseudonym.normalize('NFC'), subject.pseudonym]),
    );
    const inComposed = rows.get('WHERE pseudonym = @composed', { composed });
    const stored = decomposed.get(composed);
    return inComposed ?? (stored === undefined ? null : rows.get('WHERE pseudonym = @stored', { stored }));
  }
  return {
    /**
     * What audit rows call a subject: a keyed hash (HMAC-SHA-256 over the NFC form, 64 hexadecimal digits). Nobody without
     * this store can tell whose it is, and the same pseudonym has the same one also after its subject was erased.
     */
    refOf,
    /** When the subject of this pseudonym was erased, unless a person has said since that it may come again; else null. */
    erasedAt,
    byId: (id: number) => rows.get('WHERE id = @id', { id }),
    byPseudonym,
    /** By pseudonym; `search` is a part of it, letter case ignored. */
    list({ search }: { search?: string | undefined } = {}) {
      // instr, not LIKE: a pseudonym may hold % or _.
      const where = search === undefined ? '' : 'WHERE instr(lower(pseudonym), lower(@search)) > 0';
      return db.all(
        subjectSummary,
        `SELECT id, pseudonym, created_at AS createdAt,
           (SELECT count(*) FROM images WHERE subject_id = subjects.id AND status = 'ready') AS images,
           (SELECT json_group_array(label) FROM (SELECT DISTINCT label FROM images
              WHERE subject_id = subjects.id AND status = 'ready' ORDER BY label)) AS labels
         FROM subjects ${where} ORDER BY pseudonym`,
        { search },
      );
    },
    /** By pseudonym, without a look at their images. */
    all: () => rows.all('ORDER BY pseudonym'),
    /** All of them, as they are stored. */
    pseudonyms: () => rows.all('ORDER BY pseudonym').map(({ pseudonym }) => pseudonym),
    count: () => db.get(countRow, 'SELECT count(*) AS count FROM subjects')!.count,
    /**
     * Gives the subject, new (in composed form) or old.
     * @throws AppError SUBJECT_ERASED when it was erased and nobody has said that it may come again
     */
    upsert({ pseudonym }: { pseudonym: string }) {
      const known = byPseudonym(pseudonym);
      if (known !== null) return known;
      const at = erasedAt(pseudonym);
      if (at !== null)
        throw new AppError('SUBJECT_ERASED', `"${pseudonym}" was erased on ${at.slice(0, 10)}.`);
      return rows.write('INSERT INTO subjects (pseudonym, created_at) VALUES (@pseudonym, @now)', {
        pseudonym: pseudonym.normalize('NFC'),
        now: now(),
      })!;
    },
  };
}

export function createDatasets(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'datasets', datasetRecord);
  return {
    list: () => rows.all('ORDER BY name'),
    /** Gives the dataset of this name, made now if there was none. */
    ensure(name: string) {
      const sql =
        'INSERT INTO datasets (name, created_at) VALUES (@name, @now) ON CONFLICT (name) DO NOTHING';
      db.run(sql, { name, now: now() });
      return rows.get('WHERE name = @name', { name })!;
    },
  };
}

export interface ImageFilter {
  datasetId?: number | undefined;
  subjectId?: number | undefined;
  split?: Split | undefined;
  status?: ImageStatus | undefined;
  label?: string | undefined;
}
export type NewImage = Defaulted<
  Omit<ImageRecord, 'id' | 'pseudonym'>,
  'reason' | 'cropSha256' | 'cropKind' | 'faceBox' | 'quality' | 'cropHash' | 'asideKind' | 'importedAt'
>;

export type ReconsideredImage = Pick<
  ImageRecord,
  | 'status'
  | 'reason'
  | 'asideKind'
  | 'cropSha256'
  | 'cropKind'
  | 'width'
  | 'height'
  | 'faceBox'
  | 'quality'
  | 'cropHash'
>;

export function createImages(db: Sqlite, now: () => string) {
  const stored = imageRecord.omit({ id: true, pseudonym: true });
  const corrections = createChangeListeners();
  const unset = Object.fromEntries(Object.keys(stored.shape).map((key) => [key, null]));
  const insert = `${insertSql('images', Object.keys(stored.shape))}
    ON CONFLICT (dataset_id, sha256) DO NOTHING RETURNING id`;
  const select = `SELECT ${selectList(imageRecord.omit({ pseudonym: true }), 'images')},
    subjects.pseudonym AS pseudonym FROM images JOIN subjects ON subjects.id = images.subject_id`;
  return {
    get: (id: number) => db.get(imageRecord, `${select} WHERE images.id = @id`, { id }),
    /** In order of import. */
    list: (filter: ImageFilter = {}) =>
      db.all(imageRecord, `${select}${whereSql(filter)} ORDER BY images.id`, { ...filter }),
    /** The image with these bytes (SHA-256 of the original file) in a dataset. */
    bySha: (datasetId: number, sha256: string) =>
      db.get(imageRecord, `${select} WHERE images.dataset_id = @datasetId AND images.sha256 = @sha256`, {
        datasetId,
        sha256,
      }),
    /** Crops that are stored, in order of import; of one subject, or of all. */
    crops: (subjectId?: number) =>
      db.all(
        storedCrop,
        `SELECT id, subject_id AS subjectId, crop_sha256 AS cropSha256, imported_at AS importedAt FROM images
         WHERE crop_sha256 IS NOT NULL${subjectId === undefined ? '' : ' AND subject_id = @subjectId'} ORDER BY id`,
        { subjectId },
      ),
    /** Labels that somebody else's images have. */
    labelsOfOthers: (subjectId: number): string[] =>
      db
        .all(labelRow, 'SELECT DISTINCT label FROM images WHERE subject_id <> @subjectId', { subjectId })
        .map(({ label }) => label),
    /** Names of all files that were imported, each once. */
    sourceNames: (): string[] =>
      db
        .all(sourceNameRow, 'SELECT DISTINCT source_name AS sourceName FROM images')
        .map(({ sourceName }) => sourceName),
    /** By label and split, sorted; labels without any image are not listed. */
    counts: (filter: ImageFilter = {}) =>
      db.all(
        imageCount,
        `SELECT label, split, sum(status = 'ready') AS ready, sum(status = 'set-aside') AS setAside
         FROM images${whereSql(filter)} GROUP BY label, split ORDER BY label, split`,
        { ...filter },
      ),
    /** The new id, or null when the dataset holds these bytes already (nothing is changed then). */
    insert: (image: NewImage): number | null =>
      db.get(idRow, insert, { ...unset, ...asColumns(image), importedAt: image.importedAt ?? now() })?.id ??
      null,
    /** Sets it aside, and forgets what was made of the face: the crop, whose blob has no row here any more, and its measures. */
    dropCrop(id: number, reason: string, asideKind: AsideKind = 'consent-ended'): void {
      db.run(
        `UPDATE images SET status = 'set-aside', reason = @reason, aside_kind = @asideKind, crop_sha256 = NULL, crop_kind = NULL,
           crop_hash = NULL, face_box = NULL, quality = NULL WHERE id = @id`,
        { id, reason, asideKind },
      );
    },
    /** Hears of every correction. @returns how to stop */
    onCorrect: corrections.add,
    /** Call it through core/data/corrections.ts, which checks and records it. */
    correct(id: number, image: Pick<ImageRecord, 'subjectId' | 'label' | 'split'>): void {
      corrections.tell();
      db.run('UPDATE images SET subject_id = @subjectId, label = @label, split = @split WHERE id = @id', {
        ...pick(image, 'subjectId', 'label', 'split'),
        id,
      });
    },
    /** When the name of a file held the pseudonym of somebody who is erased. */
    renameSource(from: string, to: string): void {
      db.run('UPDATE images SET source_name = @to WHERE source_name = @from', { from, to });
    },
    setAside(id: number, reason: string, asideKind: AsideKind = 'other'): void {
      db.run(
        "UPDATE images SET status = 'set-aside', reason = @reason, aside_kind = @asideKind WHERE id = @id",
        { id, reason, asideKind },
      );
    },
    /** Perceptual hashes of the ready images of a dataset, old ones without a hash left out. */
    hashes: (datasetId: number) =>
      db.all(
        hashedImage,
        `SELECT images.id AS id, source_name AS sourceName, subjects.pseudonym AS pseudonym, split,
           crop_hash AS cropHash, crop_sha256 AS cropSha256
         FROM images JOIN subjects ON subjects.id = images.subject_id
         WHERE dataset_id = @datasetId AND status = 'ready' AND crop_hash IS NOT NULL ORDER BY images.id`,
        { datasetId },
      ),
    /** What a later import found of an image that is kept aside: now it is ready, or there is another reason. */
    reconsider(id: number, found: ReconsideredImage): void {
      db.run(`UPDATE images SET ${assignments(Object.keys(found))} WHERE id = @id`, {
        ...asColumns(found),
        id,
      });
    },
  };
}
