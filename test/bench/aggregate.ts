/**
 * Cost of one exact aggregation of ViT-Base's factors, beside the same in NumPy; see docs/benchmarks.md.
 * A measurement, not a test: it ends with 0 when a target is missed.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import Table from 'cli-table3';
import { z } from 'zod';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { rank, writeStates } from './aggregate-states.ts';

const usage = `npm run bench:aggregate -- [options]
  --json FILE        write the results there
  --sites A,B        numbers of sites (10,50,100)
  --strategies A,B   strategies that aggregate exactly (flexlora,sa-fedlora)
  --ours-only        without NumPy
BENCH_PYTHON names a Python interpreter that has numpy and safetensors.`;

const targets = { sites: 100, cpuSeconds: 6, peakBytes: 400e6 };

const costSchema = z.object({ cpuSeconds: z.number(), wallSeconds: z.number(), peakBytes: z.number() });
const oursSchema = costSchema.extend({
  processCpuSeconds: z.number(),
  startBytes: z.number(),
  longestBlockMs: z.number(),
  energyKept: z.number(),
  driftShare: z.number(),
});
const numpySchema = z.object({
  costs: z.object({ float32: costSchema, float64: costSchema }),
  distance: z.number(),
  energyDistance: z.number(),
  energyKept: z.number(),
  versions: z.record(z.string(), z.string()),
});

interface Result {
  sites: number;
  strategies: Record<string, z.infer<typeof oursSchema>>;
  numpy: z.infer<typeof numpySchema> | null;
}

const count = z.number().int().positive();
const words = z.string().transform((text) => text.split(','));
const optionsSchema = z.object({
  json: z.string().optional(),
  sites: words
    .transform((each) => each.map(Number))
    .pipe(z.array(count).min(1))
    .default([10, 50, 100]),
  strategies: words.pipe(z.array(strategyNameSchema).min(1)).default(['flexlora', 'sa-fedlora']),
  'ours-only': z.boolean().default(false),
});

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = parseArgs({
    options: { json: text, sites: text, strategies: text, 'ours-only': flag, help: flag },
  });
  if (values.help === true) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  const options = optionsSchema.parse(values);
  const python = options['ours-only'] ? undefined : process.env['BENCH_PYTHON'];
  if (!options['ours-only'] && !python) {
    throw new Error('Set BENCH_PYTHON to a Python interpreter that has NumPy, or give --ours-only.');
  }
  const folder = await mkdtemp(join(tmpdir(), 'anneal-aggregate-'));
  try {
    await writeStates(folder, Math.max(...options.sites));
    const results: Result[] = [];
    for (const sites of options.sites) results.push(await measure(folder, sites, options.strategies, python));
    const report = {
      date: new Date().toISOString().slice(0, 10),
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      targets,
      versions: versionsOf(results),
      results,
    };
    if (options.json) await writeFile(options.json, `${JSON.stringify(report, null, 2)}\n`);
    process.stdout.write(`${table(results)}\n`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  folder: string,
  sites: number,
  strategies: readonly string[],
  python: string | undefined,
): Promise<Result> {
  const result: Result = { sites, strategies: {}, numpy: null };
  for (const strategy of strategies) {
    process.stderr.write(`${sites} sites, ${strategy}\n`);
    const script = join(import.meta.dirname, 'aggregate-run.ts');
    const output = await run(process.execPath, [script, folder, strategy, String(sites)]);
    result.strategies[strategy] = oursSchema.parse(output);
  }
  if (python === undefined) return result;
  process.stderr.write(`${sites} sites, NumPy\n`);
  const script = join(import.meta.dirname, 'aggregate_numpy.py');
  result.numpy = numpySchema.parse(await run(python, [script, folder, String(sites), String(rank)]));
  return result;
}

/** NumPy computes with one thread: those that wait for each other by spinning would count as processor time. */
const environment = { ...process.env, OPENBLAS_NUM_THREADS: '1', MKL_NUM_THREADS: '1', OMP_NUM_THREADS: '1' };

async function run(program: string, args: readonly string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(program, [...args], { env: environment });
  return JSON.parse(stdout);
}

function versionsOf(results: readonly Result[]): Record<string, string> {
  const runtime = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  return {
    node: process.versions.node,
    onnxruntime: runtime.version,
    ...results.find(({ numpy }) => numpy)?.numpy?.versions,
  };
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);

function table(results: readonly Result[]): string {
  const rows = new Table({
    head: ['sites', 'by', 'CPU s', 'wall s', 'peak MB', 'longest block ms', 'energy kept', 'against NumPy'],
    style: { head: [], border: [] },
  });
  for (const { sites, strategies, numpy } of results) {
    const names = Object.keys(strategies);
    for (const [name, cost] of Object.entries(strategies)) {
      const isCompared = numpy !== null && name === names.at(-1);
      const difference = isCompared
        ? `ΔW ${numpy.distance.toExponential(1)}, energy ${numpy.energyDistance.toExponential(1)}`
        : '';
      rows.push([
        sites,
        name,
        cost.cpuSeconds.toFixed(2),
        cost.wallSeconds.toFixed(2),
        megabytes(cost.peakBytes),
        cost.longestBlockMs.toFixed(0),
        cost.energyKept.toFixed(6),
        difference,
      ]);
    }
    for (const [type, cost] of Object.entries(numpy?.costs ?? {})) {
      rows.push([
        sites,
        `NumPy, ${type}`,
        cost.cpuSeconds.toFixed(2),
        cost.wallSeconds.toFixed(2),
        megabytes(cost.peakBytes),
        '',
        type === 'float64' ? numpy!.energyKept.toFixed(6) : '',
        '',
      ]);
    }
  }
  const { sites, cpuSeconds, peakBytes } = targets;
  return `${rows.toString()}\nTarget: ${sites} sites in less than ${cpuSeconds} s of CPU and ${megabytes(peakBytes)} MB.`;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
