/** SQL made from the keys of a record: columns are the same names in snake_case. Keys are never user input. */
import type { z } from 'zod';
import type { Sqlite, SqlParameters, SqlValue } from './sqlite.ts';

/** Distributes nothing, but makes undefined and missing the same for callers under exactOptionalPropertyTypes. */
export type Patch<T> = { [K in keyof T]?: T[K] | undefined };
export type Defaulted<T, K extends keyof T> = Omit<T, K> & Patch<Pick<T, K>>;

/** `sizeBytes` → `size_bytes`, `sha256` → `sha256`. */
function columnName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `id, size_bytes AS sizeBytes, …` in the order of the record's fields. */
export function selectList(record: z.ZodObject, table?: string): string {
  const prefix = table === undefined ? '' : `${table}.`;
  return Object.keys(record.shape)
    .map((key) => `${prefix}${columnName(key)} AS ${key}`)
    .join(', ');
}

/** `INSERT INTO t (a, b_c) VALUES (@a, @bC)` */
export function insertSql(table: string, keys: readonly string[]): string {
  return `INSERT INTO ${table} (${keys.map(columnName).join(', ')}) VALUES (${keys.map((key) => `@${key}`).join(', ')})`;
}

/** `a = @a, b_c = @bC` */
export function assignments(keys: readonly string[]): string {
  return keys.map((key) => `${columnName(key)} = @${key}`).join(', ');
}

/** `a = excluded.a, b_c = excluded.b_c` */
export function replacements(keys: readonly string[]): string {
  return keys.map((key) => `${columnName(key)} = excluded.${columnName(key)}`).join(', ');
}

/** ` WHERE a = @a AND b_c = @bC`, or nothing when every value is undefined. */
export function whereSql(filter: object): string {
  const terms = definedKeys(filter).map((key) => `${columnName(key)} = @${key}`);
  return terms.length === 0 ? '' : ` WHERE ${terms.join(' AND ')}`;
}

/** Keys whose value is not undefined. */
export function definedKeys(value: object): string[] {
  return Object.entries(value).flatMap(([key, field]) => (field === undefined ? [] : [key]));
}

/** Lists and tables are JSON in their columns; what is undefined is left out. */
export function asColumns(fields: object): Record<string, SqlValue> {
  const isJson = (value: unknown) =>
    typeof value === 'object' && value !== null && !(value instanceof Uint8Array);
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, isJson(value) ? JSON.stringify(value) : value]),
  );
}

/**
 * A member of a cohort is of two subjects where somebody has corrected whose image it is: of the one as it was frozen, and of
 * the one as it is. This one asks for the members of a subject; the indexes of both tables answer it.
 */
export const isOfSubject =
  '(subject_id = @subjectId OR image_id IN (SELECT id FROM images WHERE subject_id = @subjectId))';

/** The other way round: whose a member is, for `IN`. @param member alias of its row */
export const subjectsOf = (member: string): string =>
  `(${member}.subject_id, (SELECT images.subject_id FROM images WHERE images.id = ${member}.image_id))`;

/** A table whose columns are the fields of `record`. */
export function rowsOf<T>(db: Sqlite, table: string, record: z.ZodObject & z.ZodType<T>) {
  const columns = selectList(record);
  const select = `SELECT ${columns} FROM ${table}`;
  return {
    keys: Object.keys(record.shape),
    /** The first one; null when there is none. `clause` begins at WHERE. */
    get: (clause: string, parameters?: SqlParameters): T | null =>
      db.get(record, `${select} ${clause}`, parameters),
    all: (clause: string, parameters?: SqlParameters): T[] =>
      db.all(record, `${select} ${clause}`, parameters),
    /** One row at a time, for walks over the whole table. */
    each: (clause: string): Generator<T> => db.each(record, `${select} ${clause}`),
    /** The row that an INSERT or UPDATE leaves; null when it found none. */
    write: (statement: string, parameters: SqlParameters): T | null =>
      db.get(record, `${statement} RETURNING ${columns}`, parameters),
  };
}
