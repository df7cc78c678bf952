/** What the command found out about one data set, as it is kept between calls. */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FinishedRun } from '../../../core/simulation/record.ts';
import { writeFileAtomically } from '../../../core/store/atomic-file.ts';
import type { TriedRate } from './choice.ts';
import type { Claim } from './claims.ts';
import type { DataSet } from './plan-of-runs.ts';
import type { ResultRow } from './table-rows.ts';

export interface Failure {
  readonly dataset: string;
  readonly run: string;
  readonly error: string;
}

export interface Part {
  readonly dataset: DataSet;
  readonly images: { readonly train: number; readonly validation: number; readonly test: number };
  readonly target: number;
  readonly rows: readonly ResultRow[];
  readonly search: readonly TriedRate[];
  readonly claims: readonly Claim[];
  readonly failures: readonly Failure[];
  readonly plots: string;
  /** Sums over all runs: time in trainer processes, and the wall clock over all calls of the command. */
  readonly seconds: { readonly searchCompute: number; readonly tableCompute: number; readonly wall: number };
  readonly versions: FinishedRun['versions'];
  readonly machine: FinishedRun['machine'];
}

const partName = 'part.json';

export async function writePart(outFolder: string, part: Part): Promise<void> {
  await writeJson(join(outFolder, partName), part);
}

/** Null when that data set has not been finished with these settings. */
export async function readPart(outFolder: string, dataset: DataSet): Promise<Part | null> {
  const file = join(outFolder, partName);
  if (!existsSync(file)) return null;
  // Written by this command; the comparison refuses what another version of it has written.
  const part = JSON.parse(await readFile(file, 'utf8')) as Part;
  return JSON.stringify(part.dataset) === JSON.stringify(dataset) ? part : null;
}

const clockName = 'wall-seconds.json';

/** Seconds that earlier calls worked on a data set. */
export async function readClock(outFolder: string): Promise<number> {
  const text = await readFile(join(outFolder, clockName), 'utf8').catch(() => '0');
  const seconds = Number(text);
  return Number.isFinite(seconds) ? seconds : 0;
}

export async function writeClock(outFolder: string, seconds: number): Promise<void> {
  await mkdir(outFolder, { recursive: true });
  await writeJson(join(outFolder, clockName), seconds);
}

export async function writeJson(file: string, value: unknown): Promise<void> {
  await writeFileAtomically(file, Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
}
