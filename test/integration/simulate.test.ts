/** The simulation end to end: deployed coordinator, sites, stores and trainers, with a small vision transformer. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../core/shared/logger.ts';
import { readExperiment } from '../../core/simulation/experiment.ts';
import { type FinishedRun, type RunLine, readRunLines } from '../../core/simulation/record.ts';
import { openSimulation } from '../../core/simulation/simulation.ts';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const command = join(repository, 'core/cli/anneal.ts');
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-simulation-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const header = `
data:
  faces: {subjects: 32, imagesPerSubject: 2}
base: {path: ${join(repository, 'test/fixtures/peft/small-vit')}, id: small-vit}
sites: 3
policy: open
partitions: [{dirichlet: 0.5}]
`;
const settings = `
settings:
  rounds: 3
  initiatingRounds: 1
  coolingRounds: 0
  rMax: 4
  rMin: 2
  training: {batchSize: 8, epochs: 1}
`;

async function writeExperiment(name: string, rest: string): Promise<string> {
  const file = join(folder, `${name}.yaml`);
  await writeFile(file, `${header}${settings}${rest}`);
  return file;
}

/** Runs all of an experiment in this process; `stopAfter` rounds it is interrupted as Ctrl-C does. */
async function simulate(file: string, out: string, options: { stopAfter?: number; workers?: number } = {}) {
  const abort = new AbortController();
  const experiment = { ...(await readExperiment(file)), out: join(folder, out) };
  const simulation = await openSimulation({
    experiment,
    version: 'test',
    logger: silentLogger,
    signal: abort.signal,
  });
  let rounds = 0;
  try {
    await simulation.run(simulation.runs, {
      workers: options.workers ?? 2,
      threads: 1,
      onEvent(event) {
        if (event.type === 'round' && ++rounds === options.stopAfter) abort.abort();
      },
    });
    return { simulation, rounds, lines: await readRunLines(join(folder, out, 'runs.jsonl')) };
  } finally {
    simulation.close();
  }
}

/** A line without what may differ when the same run is done again. */
function repeatable(line: RunLine): unknown {
  const { startedAt: _, machine: __, versions: ___, ...rest } = line as FinishedRun;
  const rounds = rest.rounds.map(({ wallMs: _wall, ...round }) => round);
  const { wallMs: _wallMs, computeMs: _computeMs, ...totals } = rest.totals;
  return { ...rest, rounds, totals };
}

async function countFiles(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile() && /^[0-9a-f]{64}$/.test(entry.name)).length;
}

const byId = (lines: readonly RunLine[]) =>
  lines.map(repeatable).sort((a, b) => ((a as { id: string }).id < (b as { id: string }).id ? -1 : 1));

function finished(lines: readonly RunLine[]): FinishedRun[] {
  return lines.map((line) => {
    if (line.status === 'finished') return line;
    throw new Error(`${line.label}: ${line.error.message}`);
  });
}

const twoByTwo = 'seeds: [1, 2]\nstrategies: [fedavg-lora, sa-fedlora]\n';

/** What other tests compare with: the same runs have the same ids, whatever their experiment is called. */
let wholeRuns: ReturnType<typeof simulate> | undefined;
async function whole(): ReturnType<typeof simulate> {
  wholeRuns ??= simulate(await writeExperiment('whole', twoByTwo), 'whole');
  return wholeRuns;
}

/** What an interruption may not change. Bytes it may: a transfer that was broken off is repeated. */
const outcomes = (lines: readonly RunLine[]) =>
  new Map(
    finished(lines).map(({ id, final, rounds }) => [
      id,
      { final, losses: rounds.map(({ meanLoss }) => meanLoss), ranks: rounds.map(({ rankSum }) => rankSum) },
    ]),
  );

describe('anneal simulate', () => {
  test('runs strategies and seeds, counts what was sent as planned, and gives the same figures again', async () => {
    const file = await writeExperiment('again', twoByTwo);

    const first = await whole();
    const again = await simulate(file, 'again', { workers: 1 });

    const lines = finished(first.lines);
    expect(lines).toHaveLength(4);
    for (const line of lines) {
      const run = first.simulation.runs.find(({ id }) => id === line.id)!;
      expect(line.rounds).toHaveLength(3);
      // Every update and every state travels once on a link that loses nothing.
      expect(line.totals.bytesSent).toBe(run.planned.bytesSent);
      expect(line.totals.parametersSent).toBe(run.planned.parametersSent);
      expect(line.rounds.every(({ sites }) => sites === 3)).toBe(true);
      expect(line.rounds.every(({ accuracy }) => accuracy !== null)).toBe(true);
      expect(line.final.metrics?.total).toBe(16);
    }
    expect(lines.find(({ label }) => label === 'sa-fedlora')!.rounds.map(({ rank }) => rank)).toEqual([
      4, 4, 2,
    ]);
    // Another number of trainers and another order of jobs change nothing.
    const named = byId(first.lines).map((line) => ({ ...(line as object), experiment: 'again' }));
    expect(byId(again.lines)).toEqual(named);
    expect(new Set(lines.map(({ final }) => final.stateSha256)).size).toBe(4);
    expect(await readdir(join(folder, 'whole/work/runs'))).toEqual([]);
    // Crops of faces are there; only their owner may look.
    if (process.platform !== 'win32') {
      expect((await stat(join(folder, 'whole/work'))).mode & 0o777).toBe(0o700);
    }
  });

  test('goes on where it was stopped, without running again what is finished', async () => {
    const file = await writeExperiment('stopped', twoByTwo);

    await expect(simulate(file, 'stopped', { stopAfter: 5, workers: 1 })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    const left = await readdir(join(folder, 'stopped/work/runs'));
    const resumed = await simulate(file, 'stopped', { workers: 1 });
    const nothing = await simulate(file, 'stopped');

    expect(left.length).toBeGreaterThan(0);
    expect(outcomes(resumed.lines)).toEqual(outcomes((await whole()).lines));
    expect(resumed.lines).toHaveLength(4);
    expect(nothing.rounds).toBe(0);
  });

  test('a killed process leaves runs that the next one finishes with the same result', async () => {
    const file = await writeExperiment('killed', 'seeds: [2]\nstrategies: [sa-fedlora]\n');
    const run = finished((await whole()).lines).find(
      ({ label, seed }) => label === 'sa-fedlora' && seed === 2,
    )!;
    const out = join(folder, 'killed');
    const child = spawn(process.execPath, [command, 'simulate', file, '--out', out, '--data', folder], {
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    // The state that the run starts from and a site's update: the first round is under way.
    const blobs = join(out, 'work/runs', run.id, 'coordinator/blobs');
    while ((await countFiles(blobs)) < 2 && child.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.kill('SIGKILL');
    await ended;
    const finishedBefore = existsSync(join(out, 'runs.jsonl'));

    const resumed = await simulate(file, 'killed', { workers: 1 });

    expect(finishedBefore).toBe(false);
    expect(outcomes(resumed.lines)).toEqual(outcomes([run]));
  });

  test('a run that fails is recorded, the others go on, and the exit code tells', async () => {
    // A site that learns at this rate sends numbers that the coordinator cannot accept.
    const file = await writeExperiment(
      'failing',
      `seeds: [1]
strategies:
  - fedavg-lora
  - name: wild
    strategy: fedavg-lora
    settings: {training: {learningRate: 1.0e+6, headLearningRate: 1.0e+6, clipNorm: 0}}
`,
    );
    const out = join(folder, 'failing-out');

    const child = spawn(
      process.execPath,
      [command, 'simulate', file, '--out', out, '--data', folder, '--json'],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const pieces: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (text: string) => pieces.push(text));
    const code = await new Promise((resolve) => child.once('exit', resolve));

    const printed = JSON.parse(pieces.join('')) as { runs: RunLine[] };
    expect(code).toBe(1);
    expect(printed.runs.map(({ label, status }) => [label, status])).toEqual([
      ['fedavg-lora', 'finished'],
      ['wild', 'failed'],
    ]);
    const failed = printed.runs[1] as Extract<RunLine, { status: 'failed' }>;
    expect(['TRAINING_FAILED', 'UPDATE_REJECTED']).toContain(failed.error.code);
    expect(existsSync(join(out, 'report.html'))).toBe(true);
    expect(await readRunLines(join(out, 'runs.jsonl'))).toHaveLength(2);
  });

  test('a quorum that the sites can never be is refused instead of waited for', async () => {
    const file = await writeExperiment(
      'quorum',
      'strategies: [{strategy: head-only, settings: {quorum: 4}}]\n',
    );

    await expect(simulate(file, 'quorum')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: 'The strategy "head-only": the quorum is 4 sites, but there are only 3.',
    });
  });

  test('an output folder belongs to one simulation at a time', async () => {
    const file = await writeExperiment('busy', 'strategies: [head-only]\n');
    const experiment = await readExperiment(file);
    const options = {
      experiment,
      version: 'test',
      logger: silentLogger,
      signal: new AbortController().signal,
    };
    const simulation = await openSimulation(options);
    try {
      await expect(openSimulation(options)).rejects.toMatchObject({ code: 'DATA_FOLDER_IN_USE' });
    } finally {
      simulation.close();
    }
  });
});
