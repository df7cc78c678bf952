/**
 * The resources from which consents were read, so that they can be given back as they came. `consentEvents.erase` takes
 * those of a subject away.
 */
import { z } from 'zod';
import { jsonText } from '../shared/text.ts';
import { asColumns, insertSql, replacements, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

export const consentSourceRecord = z.object({
  id: z.int(),
  subjectId: z.int(),
  format: z.enum(['fhir-r4']),
  /** What the resource is called wherever it turns up again. */
  sourceKey: z.string(),
  /** Of `document`. */
  sha256: z.string(),
  /** Canonical JSON, without names. */
  document: z.string(),
  /** When the consent was given, ISO 8601 UTC; null when the resource does not say. */
  givenAt: z.string().nullable(),
  /** When the resource was read for the first time. */
  firstReadAt: z.string(),
  /** The consent events that its newest version stands for, by purpose. */
  grants: jsonText.pipe(z.record(z.string(), z.array(z.int()))),
  /** Newest consent event of the subject when it was read; later ones are news that it does not tell. */
  upToEventId: z.int(),
});
export type ConsentSourceRecord = z.infer<typeof consentSourceRecord>;

export function createConsentSources(db: Sqlite) {
  const rows = rowsOf(db, 'consent_sources', consentSourceRecord);
  const given = rows.keys.filter((key) => key !== 'id');
  const insert = `${insertSql('consent_sources', given)} ON CONFLICT (source_key) DO UPDATE SET
    ${replacements(given.filter((key) => key !== 'firstReadAt'))}`;
  return {
    byKey: (sourceKey: string) => rows.get('WHERE source_key = @sourceKey', { sourceKey }),
    /** By subject, in order of reading. */
    all: () => rows.all('ORDER BY subject_id, id'),
    /** Replaces the version that was read before. */
    put: (source: Omit<ConsentSourceRecord, 'id'>): ConsentSourceRecord =>
      rows.write(insert, asColumns(source))!,
  };
}
