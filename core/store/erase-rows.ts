/**
 * Deletes what the database holds of a subject: the row, and all rows that point to it, directly or through others, whatever
 * tables there are. So a table that a later version adds is not forgotten, as long as it says whom it is about by a
 * foreign key.
 */
import { z } from 'zod';
import { createBlobReferences } from './retention.ts';
import type { Sqlite } from './sqlite.ts';

const referenceRow = z.object({ child: z.string(), column: z.string(), parentColumn: z.string() });

export interface ErasedRows {
  /** Rows deleted, by table; tables of which none was are not listed. */
  counts: Record<string, number>;
  /** Blobs that a row held before and none holds now. */
  files: string[];
}

/** Tables whose foreign keys point to this one. */
const referencesTo = (db: Sqlite, table: string) =>
  db.all(
    referenceRow,
    `SELECT children.name AS child, keys."from" AS "column", coalesce(keys."to", 'id') AS parentColumn
     FROM sqlite_schema AS children, pragma_foreign_key_list(children.name) AS keys
     WHERE children.type = 'table' AND keys."table" = @table ORDER BY child, "column"`,
    { table },
  );

/** Names come from the schema, never from a person. */
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/**
 * Call it in the transaction in which the erasure of the subject is `deleting`.
 * @param also deletes further rows, and says how many of which table: what was made of the subject and does not point to it
 */
export function eraseRows(
  db: Sqlite,
  subjectId: number,
  also: () => Record<string, number> = () => ({}),
): ErasedRows {
  const { allHeld } = createBlobReferences(db);
  const heldBefore = allHeld();
  const counts: Record<string, number> = {};
  const count = (table: string, changes: number) => {
    if (changes > 0) counts[table] = (counts[table] ?? 0) + changes;
  };
  const rows = (table: string, where: string, above: readonly string[]) => {
    for (const { child, column, parentColumn } of referencesTo(db, table)) {
      if (above.includes(child)) continue;
      const parents = `SELECT ${quoted(parentColumn)} FROM ${quoted(table)} WHERE ${where}`;
      rows(child, `${quoted(column)} IN (${parents})`, [...above, child]);
    }
    count(table, db.run(`DELETE FROM ${quoted(table)} WHERE ${where}`, { subjectId }).changes);
  };
  for (const [table, changes] of Object.entries(also())) count(table, changes);
  rows('subjects', 'id = @subjectId', ['subjects']);
  const heldAfter = allHeld();
  return { counts, files: [...heldBefore].filter((sha256) => !heldAfter.has(sha256)) };
}

/** Every table that points to subjects, directly or through others; for a test that fills them all. */
export function tablesAboutSubjects(db: Sqlite): string[] {
  const found = new Set<string>(['subjects']);
  for (const table of found) for (const { child } of referencesTo(db, table)) found.add(child);
  return [...found];
}
