/** SQL made from the keys of a record: columns are the same names in snake_case. Keys are never user input. */
import type { z } from 'zod';

/** `sizeBytes` → `size_bytes`, `sha256` → `sha256`. */
export function columnName(key: string): string {
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

/** ` WHERE a = @a AND b_c = @bC`, or nothing when every value is undefined. `columns` replaces derived names. */
export function whereSql(filter: object, columns: Readonly<Record<string, string>> = {}): string {
  const terms = definedKeys(filter).map((key) => `${columns[key] ?? columnName(key)} = @${key}`);
  return terms.length === 0 ? '' : ` WHERE ${terms.join(' AND ')}`;
}

/** Keys whose value is not undefined. */
export function definedKeys(value: object): string[] {
  return Object.entries(value).flatMap(([key, field]) => (field === undefined ? [] : [key]));
}
