/**
 * Leak reports of built-in base models, in `built-in-leaks.json` in the models folder: they have no manifest. The file is
 * a cache: one that cannot be read counts as empty, and the models are measured again.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type LeakReport, leakReportSchema } from '../config/leak-report.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { jsonText } from '../shared/text.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import { makeFolder } from '../store/make-folder.ts';

const fileName = 'built-in-leaks.json';
const mostReports = 100;

const fileSchema = z.strictObject({
  formatVersion: z.literal(1),
  reports: z.array(z.strictObject({ sha256: sha256Schema, leak: leakReportSchema })).max(mostReports),
});

async function readReports(modelsFolder: string): Promise<z.infer<typeof fileSchema>['reports']> {
  const text = await readFile(join(modelsFolder, fileName), 'utf8').catch(() => '');
  return jsonText.pipe(fileSchema).safeParse(text).data?.reports ?? [];
}

export async function findBuiltInLeak(modelsFolder: string, sha256: string): Promise<LeakReport | null> {
  const reports = await readReports(modelsFolder);
  return reports.find((report) => report.sha256 === sha256)?.leak ?? null;
}

/** Makes the folder where it is missing. */
export async function keepBuiltInLeak(modelsFolder: string, sha256: string, leak: LeakReport): Promise<void> {
  const others = (await readReports(modelsFolder)).filter((report) => report.sha256 !== sha256);
  const reports = [{ sha256, leak }, ...others].slice(0, mostReports);
  makeFolder(modelsFolder, { mode: 0o700 });
  const text = `${JSON.stringify({ formatVersion: 1, reports }, null, 2)}\n`;
  await writeFileAtomically(join(modelsFolder, fileName), text, 0o600);
}
