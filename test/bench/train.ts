/**
 * Training speed and memory against PyTorch on this machine; see docs/benchmarks.md.
 * A measurement, not a test: it ends with 0 when a target is missed.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startProcess } from './child-process.ts';
import { measureNetwork } from './measure-network.ts';
import { type Pipeline, peakReadySchema, peakSchema, pipelineSchema } from './messages.ts';
import { benchNetworks, sideOf } from './networks.ts';
import { type BenchOptions, readOptions, usage } from './options.ts';
import { type BenchReport, formatReport } from './report.ts';

const progress = (text: string) => process.stderr.write(`${text}\n`);
const peakRuns = 10;

async function main(): Promise<void> {
  if (process.argv.includes('--help')) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  const options = readOptions(process.argv.slice(2));
  const report = await measure(options);
  if (options.jsonFile) await writeFile(options.jsonFile, `${JSON.stringify(report, null, 2)}\n`);
  process.stdout.write(`${formatReport(report)}\n`);
}

async function measure(options: BenchOptions): Promise<BenchReport> {
  const report: BenchReport = {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    threads: options.threads,
    versions: {},
    matrixPeakGigaflopsPerSecond: 0,
    results: [],
    images: [],
  };
  const measurePeak = async () => {
    const best = (await matrixPeak(options.threads)) / 1e9;
    report.matrixPeakGigaflopsPerSecond = Math.max(report.matrixPeakGigaflopsPerSecond, best);
  };
  await measurePeak();
  for (const network of benchNetworks.filter(({ id }) => options.networks.includes(id))) {
    const result = await inFolder((folder) => measureNetwork(network, folder, options, progress));
    report.results.push(result);
    Object.assign(report.versions, result.versions);
    await measurePeak();
  }
  if (!options.images) return report;
  for (const side of new Set(report.results.map(({ network }) => sideOf(network)))) {
    progress(`images of ${side} pixels`);
    report.images.push({ side, ...(await inFolder((folder) => measureImages(folder, side))) });
  }
  return report;
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-bench-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measureImages(folder: string, side: number): Promise<Pipeline> {
  const file = join(import.meta.dirname, 'images.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [file, folder, String(side)]);
  return pipelineSchema.parse(JSON.parse(stdout));
}

/** In a process that ends at once: its threads spin. */
async function matrixPeak(threads: number): Promise<number> {
  const command = [process.execPath, join(import.meta.dirname, 'matrix-peak.ts'), String(threads)];
  const peak = await startProcess(command, peakReadySchema);
  try {
    return (await peak.ask({ type: 'steps', count: peakRuns }, peakSchema)).flopsPerSecond;
  } finally {
    await peak.close();
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
