/**
 * Version 7: subjects of earlier versions whose pseudonyms differ only in how their letters are composed (Unicode NFC and NFD)
 * are one person, whose withdrawal and erasure must reach everything. Their rows come under one subject.
 */
import { z } from 'zod';
import type { Sqlite } from './sqlite.ts';

const subjectRow = z.object({ id: z.int(), pseudonym: z.string() });
const triggerRow = z.object({ name: z.string(), sql: z.string() });
const tables = ['images', 'consent_events', 'cohort_members'] as const;

/** @returns pseudonyms of which there were several, as they are kept */
export function mergeTwins(db: Sqlite): string[] {
  const subjects = db.all(
    subjectRow,
    "SELECT id, pseudonym FROM subjects WHERE pseudonym GLOB '*[^ -~]*' ORDER BY id",
  );
  const twins = [...Map.groupBy(subjects, ({ pseudonym }) => pseudonym.normalize('NFC'))].filter(
    ([, same]) => same.length > 1,
  );
  if (twins.length === 0) return [];
  return withoutTriggers(db, () =>
    twins.map(([pseudonym, same]) => {
      const kept = same.find((subject) => subject.pseudonym === pseudonym) ?? same[0]!;
      for (const { id } of same) if (id !== kept.id) moveRows(db, id, kept.id);
      return kept.pseudonym;
    }),
  );
}

/** What identifies the twin alone stays with the one that is kept, unless that has its own. */
function moveRows(db: Sqlite, from: number, to: number): void {
  for (const table of tables)
    db.run(`UPDATE ${table} SET subject_id = @to WHERE subject_id = @from`, { from, to });
  db.run(
    `UPDATE subjects SET identifier_ciphertext = coalesce(identifier_ciphertext,
       (SELECT identifier_ciphertext FROM subjects WHERE id = @from)) WHERE id = @to`,
    { from, to },
  );
  db.run('DELETE FROM subjects WHERE id = @from', { from });
}

/** Append-only tables change here and nowhere else: before anything is bound to the audit trail. */
function withoutTriggers<T>(db: Sqlite, change: () => T): T {
  const triggers = db.all(
    triggerRow,
    `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%_no_update' AND tbl_name IN
       (SELECT value FROM json_each(@tables))`,
    { tables: JSON.stringify(tables) },
  );
  for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
  const changed = change();
  for (const { sql } of triggers) db.exec(sql);
  return changed;
}
