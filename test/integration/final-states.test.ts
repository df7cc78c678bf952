/**
 * Equal seeds, equal bytes: the final global state of every strategy, and of the options that change what travels or
 * how it is merged, is the one on record (test/fixtures/final-states.json). One process with one thread trains all
 * runs, as `anneal simulate` does.
 *
 * The policy is open: its smallest count is 1, so that updates are weighed by the exact numbers of images, as when the
 * bytes were recorded. The default policy would round them, and refuse so few subjects and steps.
 *
 * Another processor rounds otherwise (docs/simulation.md), so hashes are on record by processor. On one that is not,
 * losses are compared within a tolerance, and ranks and bytes exactly. After a change that is meant to alter results:
 * `ANNEAL_RECORD_FINAL_STATES=1 npx vitest run test/integration/final-states.test.ts`, and say why in the commit.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { silentLogger } from '../../core/shared/logger.ts';
import { readExperiment } from '../../core/simulation/experiment.ts';
import { readRunLines } from '../../core/simulation/record.ts';
import { openSimulation } from '../../core/simulation/simulation.ts';
import { strategies } from '../../core/strategy/registry.ts';

const fixtureFile = fileURLToPath(new URL('../fixtures/final-states.json', import.meta.url));
const smallVit = fileURLToPath(new URL('../fixtures/peft/small-vit', import.meta.url));

const experimentText = `
data:
  faces: {subjects: 16, imagesPerSubject: 2}
base: {path: ${smallVit}, id: small-vit}
sites: 3
policy: open
seeds: [1]
settings:
  rounds: 4
  initiatingRounds: 1
  coolingRounds: 0
  rMax: 4
  rMin: 2
  headStart: random
  gallery: off
  training: {batchSize: 4, epochs: 1}
strategies:
${Object.keys(strategies)
  .map((name) => `  - ${name}`)
  .join('\n')}
  - {name: sa-fedlora freeze, strategy: sa-fedlora, settings: {cutOff: freeze}}
  - {name: sa-fedlora freeze-a, strategy: sa-fedlora, settings: {freezeA: true}}
  - {name: sa-fedlora spectral, strategy: sa-fedlora, settings: {allocation: spectral, shape: linear}}
  - {name: sa-fedlora full, strategy: sa-fedlora, settings: {initiatingMode: full}}
  - {name: sa-fedlora int8, strategy: sa-fedlora, settings: {wire: {up: int8, down: fp16, errorFeedback: true}}}
  - {name: flexlora momentum, strategy: flexlora, settings: {serverOptimiser: {kind: momentum}}}
  - {name: hetlora ranks, strategy: hetlora, settings: {siteRanks: {site-01: 2}}}
  - {name: fedavg-lora private, strategy: fedavg-lora, settings: {privacy: {at: site, clipNorm: 0.5, noiseMultiplier: 0.1}}}
  - {name: ffa-lora adam, strategy: ffa-lora, settings: {serverOptimiser: {kind: adam}}}
  - {name: fedavg-lora median, strategy: fedavg-lora, settings: {robust: {rule: median}, localHead: true}}
`;

const runSchema = z.strictObject({
  ranks: z.array(z.int().nonnegative().nullable()),
  bytesSent: z.int(),
  meanLoss: z.array(z.number().nullable()),
});
const fixtureSchema = z.strictObject({
  runs: z.record(z.string(), runSchema),
  stateSha256: z.record(z.string(), z.record(z.string(), z.string())),
});

/** What decides how sums are rounded: the processor's model, and the vector instructions that it lets this machine use. */
async function nameProcessor(): Promise<string> {
  const facts = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const of = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(facts)?.[1] ?? '';
  const vectors = of('flags')
    .split(' ')
    .filter((flag) => /^(fma|avx|amx)/.test(flag));
  return [cpus()[0]!.model, of('cpu family'), of('model'), ...vectors].join(' ').replaceAll(/ +/g, ' ');
}

async function simulate() {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-final-states-'));
  try {
    const file = join(folder, 'final-states.yaml');
    await writeFile(file, experimentText);
    const experiment = { ...(await readExperiment(file)), out: join(folder, 'out') };
    const signal = AbortSignal.timeout(280_000);
    const simulation = await openSimulation({ experiment, version: 'test', logger: silentLogger, signal });
    try {
      await simulation.run(simulation.runs, { workers: 1, threads: 1, atOnce: 1 });
      return await readRunLines(join(experiment.out, 'runs.jsonl'));
    } finally {
      simulation.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test('the final global state of each strategy has the recorded bytes', { timeout: 300_000 }, async () => {
  const processor = await nameProcessor();
  const lines = await simulate();

  const runs: Record<string, z.infer<typeof runSchema>> = {};
  /** Runs in which sites add noise and tell no loss; they did when the losses were recorded. */
  const silent = new Set<string>();
  const hashes: Record<string, string> = {};
  for (const line of lines) {
    if (line.status !== 'finished') throw new Error(`${line.label}: ${line.error.message}`);
    runs[line.label] = {
      ranks: line.rounds.map(({ rankSum }) => rankSum),
      bytesSent: line.totals.bytesSent,
      meanLoss: line.rounds.map(({ meanLoss }) => meanLoss),
    };
    if (line.config.privacy?.at === 'site') silent.add(line.label);
    hashes[line.label] = line.final.stateSha256;
  }
  const recorded = fixtureSchema.parse(
    JSON.parse(await readFile(fixtureFile, 'utf8').catch(() => '{"runs":{},"stateSha256":{}}')),
  );
  if (process.env['ANNEAL_RECORD_FINAL_STATES'] === '1') {
    const stateSha256 = { ...recorded.stateSha256, [processor]: hashes };
    await writeFile(fixtureFile, `${JSON.stringify({ runs, stateSha256 }, null, 2)}\n`);
    return;
  }

  expect(Object.keys(runs).sort()).toEqual(Object.keys(recorded.runs).sort());
  const known = recorded.stateSha256[processor];
  if (known !== undefined) expect(hashes).toEqual(known);
  for (const [label, run] of Object.entries(recorded.runs)) {
    expect(runs[label]!.ranks, label).toEqual(run.ranks);
    expect(runs[label]!.bytesSent, label).toBe(run.bytesSent);
    for (const [round, loss] of run.meanLoss.entries()) {
      const found = expect(runs[label]!.meanLoss[round], `${label}, round ${round}`);
      if (silent.has(label)) found.toBeNull();
      else found.toBeCloseTo(loss ?? 0, 2);
    }
  }
});
