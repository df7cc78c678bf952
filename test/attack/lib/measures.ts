/** What an attack gained, as numbers. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { Matrix, solve } from 'ml-matrix';
import { z } from 'zod';
import { type ModelState, tensorsOf } from '../../../core/lora/model-state.ts';
import { openSqlite } from '../../../core/store/sqlite.ts';

export interface Holdings {
  /** Rows of all tables. */
  rows: number;
  /** Of all files. */
  bytes: number;
}

const name = z.object({ name: z.string() });
const count = z.object({ count: z.number() });

/** What a data folder holds now, its agent running or not. */
export function holdingsOf(dataFolder: string): Holdings {
  const db = openSqlite(path.join(dataFolder, 'anneal.db'), { readOnly: true });
  try {
    const tables = db.all(name, "SELECT name FROM sqlite_master WHERE type = 'table'");
    const rows = tables.map((table) => db.get(count, `SELECT count(*) AS count FROM "${table.name}"`)!.count);
    return { rows: rows.reduce((sum, each) => sum + each, 0), bytes: folderBytes(dataFolder) };
  } finally {
    db.close();
  }
}

/** Bytes that files take on the disk: a file that is made long and left empty is no gain. */
export function folderBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    // A file may go between the two.
    const found = statSync(path.join(entry.parentPath, entry.name), { throwIfNoEntry: false });
    bytes += (found?.blocks ?? 0) * 512;
  }
  return bytes;
}

/** Memory of another process in bytes, as Linux counts it; null elsewhere. */
export function residentBytesOf(pid: number): number | null {
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? null : Number(kilobytes) * 1024;
  } catch {
    return null;
  }
}

function valuesOf(state: ModelState): number[] {
  const head = tensorsOf(state, { a: false, b: false, head: true, base: false });
  return [...head.values()].flatMap(({ data }) => [...data]);
}

/**
 * How much of each update is in a merged state: the c of Σ c·(update − start) = merged − start, by least squares over
 * the head, whose values merge one by one whatever the strategy.
 */
export function sharesIn(merged: ModelState, start: ModelState, updates: readonly ModelState[]): number[] {
  const origin = valuesOf(start);
  const changeOf = (state: ModelState) => valuesOf(state).map((value, index) => value - origin[index]!);
  const changes = new Matrix(updates.map(changeOf)).transpose();
  return solve(changes, Matrix.columnVector(changeOf(merged)), true).to1DArray();
}

/** Pearson's r of two equally long signals, without its sign: a negative shows a person just as well. */
export function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const mean = (values: ArrayLike<number>) =>
    Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]! - meanA, b[i]! - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : Math.abs(ab) / Math.sqrt(aa * bb);
}

/** 1 − cos, with the direction's sign ignored; 1 when one of them says nothing. */
export function cosineDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return aa === 0 || bb === 0 ? 1 : 1 - Math.abs(ab) / Math.sqrt(aa * bb);
}
