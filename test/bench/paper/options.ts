/** Command line of paper.ts. */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { type DataSetName, dataSetNames } from './plan-of-runs.ts';

const schema = z.object({
  json: z.string().min(1).optional(),
  out: z.string().min(1).default('out/paper'),
  docs: z.string().min(1).default('docs'),
  only: z.enum(dataSetNames, `there is ${dataSetNames.join(', ')}`).optional(),
  seeds: z.coerce.number('a whole number from 1').int().min(1).max(100).optional(),
  full: z.boolean().default(false),
});

export interface PaperOptions {
  json: string | undefined;
  out: string;
  docs: string;
  only: DataSetName | undefined;
  seeds: number | undefined;
  full: boolean;
}

export const usage = `npm run bench:paper -- [options]
  --only DATASET  one of ${dataSetNames.join(', ')}; the others keep what an earlier call found or published
  --seeds N       seeds of every row (3; with --full 5)
  --full          more images and rounds, and variants of sa-fedlora; hours
  --out FOLDER    where the simulation keeps its runs (out/paper); the same command goes on with what is there
  --docs FOLDER   where results.md, results.json and images/ are written (docs)
  --json FILE     results.json there as well
Ctrl-C stops it; the same command goes on.`;

/** @returns null for --help  @throws Error in one sentence when an option is wrong */
export function readOptions(args: readonly string[]): PaperOptions | null {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: { json: text, out: text, docs: text, only: text, seeds: text, full: flag, help: flag },
  });
  if (values.help === true) return null;
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`--${issue?.path.join('.')}: ${issue?.message}`);
  }
  const { json, out, docs, only, seeds, full } = parsed.data;
  return {
    json: json === undefined ? undefined : resolve(json),
    out: resolve(out),
    docs: resolve(docs),
    only,
    seeds,
    full,
  };
}
