/**
 * Training speed and memory against PyTorch on this machine; see docs/benchmarks.md.
 * A measurement, not a test: it ends with 0 when a target is missed.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProcess } from './child-process.ts';
import { measureNetwork } from './measure-network.ts';
import { peakReadySchema, peakSchema } from './messages.ts';
import { benchNetworks } from './networks.ts';
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
    pictures: null,
  };
  const measurePeak = async () => {
    const best = (await matrixPeak(options.threads)) / 1e9;
    report.matrixPeakGigaflopsPerSecond = Math.max(report.matrixPeakGigaflopsPerSecond, best);
  };
  await measurePeak();
  for (const network of benchNetworks.filter(({ id }) => options.networks.includes(id))) {
    const folder = await mkdtemp(join(tmpdir(), 'anneal-bench-'));
    try {
      const { versions, ...result } = await measureNetwork(network, folder, options, progress);
      report.results.push({ ...result, versions });
      Object.assign(report.versions, versions);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    await measurePeak();
  }
  return report;
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
