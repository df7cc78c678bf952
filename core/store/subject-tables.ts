/** What a person adds to a subject by hand: scans of consent forms, and corrections of images. */
import {
  type ConsentDocumentRecord,
  consentDocumentRecord,
  type ImageCorrectionRecord,
  imageCorrectionRecord,
} from './records.ts';
import { type Defaulted, insertSql, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

export function createConsentDocuments(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'consent_documents', consentDocumentRecord);
  const insert = insertSql(
    'consent_documents',
    rows.keys.filter((key) => key !== 'id'),
  );
  return {
    get: (id: number) => rows.get('WHERE id = @id', { id }),
    /** In order of adding. */
    ofSubject: (subjectId: number) => rows.all('WHERE subject_id = @subjectId ORDER BY id', { subjectId }),
    /** The new row; null when this file is attached to the consent already. */
    insert: (document: Defaulted<Omit<ConsentDocumentRecord, 'id'>, 'addedAt'>) =>
      rows.write(`${insert} ON CONFLICT (consent_event_id, sha256) DO NOTHING`, {
        ...document,
        addedAt: document.addedAt ?? now(),
      }),
    /** The blob goes with core/store/retention.ts. */
    remove(id: number): void {
      db.run('DELETE FROM consent_documents WHERE id = @id', { id });
    },
  };
}

export function createImageCorrections(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'image_corrections', imageCorrectionRecord);
  const insert = insertSql(
    'image_corrections',
    rows.keys.filter((key) => key !== 'id'),
  );
  return {
    /** Of images that are or were the subject's; in order of recording. */
    ofSubject: (subjectId: number) =>
      rows.all('WHERE subject_id = @subjectId OR new_subject_id = @subjectId ORDER BY id', { subjectId }),
    withNote: () => rows.all('WHERE note IS NOT NULL ORDER BY id'),
    /** When it named somebody who is erased. */
    replaceNote(id: number, note: string): void {
      db.run('UPDATE image_corrections SET note = @note WHERE id = @id', { id, note });
    },
    ofAct: (act: string) => rows.all('WHERE act = @act ORDER BY id', { act }),
    /** Whether an image of the cohort has ever been corrected, before or after it was frozen. */
    touch: (cohortId: number) =>
      rows.get(
        'WHERE image_id IN (SELECT image_id FROM cohort_members WHERE cohort_id = @cohortId) LIMIT 1',
        { cohortId },
      ) !== null,
    /** Of images of the cohort, since it was frozen; in order of recording. */
    sinceFrozen: (cohortId: number) =>
      rows.all(
        `WHERE image_id IN (SELECT image_id FROM cohort_members WHERE cohort_id = @cohortId)
           AND corrected_at >= (SELECT frozen_at FROM cohorts WHERE id = @cohortId) ORDER BY id`,
        { cohortId },
      ),
    insert: (correction: Defaulted<Omit<ImageCorrectionRecord, 'id'>, 'correctedAt'>) =>
      rows.write(insert, { ...correction, correctedAt: correction.correctedAt ?? now() })!,
  };
}
