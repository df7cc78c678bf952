/**
 * A run from class means begins where the untrained network is, and training makes it better: on generated faces, with the
 * built-in network and with random features of MobileFaceNet's kind; on AT&T's faces where ../shared has them.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../core/shared/logger.ts';
import { readExperiment } from '../../core/simulation/experiment.ts';
import type { FinishedRun } from '../../core/simulation/record.ts';
import { openSimulation } from '../../core/simulation/simulation.ts';
import { randomMobileFaceNet } from '../fixtures/mobile-face-net.ts';

const shared = fileURLToPath(new URL('../../../shared/', import.meta.url));
const atAndT = join(shared, 'data/olivetti');
const realMobileFaceNet = join(shared, 'models/onnx/mobilefacenet-112.onnx');
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-prototypes-'));
  await writeFile(join(folder, 'random.onnx'), randomMobileFaceNet({ seed: 3 }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const faces = 'faces: {subjects: 64, imagesPerSubject: 2}';
const olivetti = `images: ${atAndT}/images\n  labels: ${atAndT}/labels.csv\n  alreadyCropped: true\n  maxClasses: 12\n  rareClasses: 6`;

/** @returns the finished runs, in the order of the strategies */
async function simulate(name: string, data: string, base: string, rest: string): Promise<FinishedRun[]> {
  const file = join(folder, `${name}.yaml`);
  await writeFile(file, `data:\n  ${data}\nbase: ${base}\nsites: 3\npolicy: open\n${rest}`);
  const experiment = { ...(await readExperiment(file)), out: join(folder, name) };
  const signal = new AbortController().signal;
  const simulation = await openSimulation({ experiment, version: 'test', logger: silentLogger, signal });
  try {
    await simulation.run(simulation.runs, { workers: 1, threads: 1 });
    return simulation.runs.map(({ id }) => {
      const line = simulation.results.lines.get(id);
      if (line?.status === 'finished') return line;
      throw new Error(line?.error.message ?? 'not run');
    });
  } finally {
    simulation.close();
  }
}

const ended = ({ untrained, rounds, final }: FinishedRun) => ({
  untrained: untrained!.rank1!,
  first: rounds[0]!.accuracy!,
  last: final.accuracy!,
});

/** Both MobileFaceNets take pixels of −1…1. */
const halves = 'mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5]';
/** All 40 people: where logits began four times as large, this one ended at 84 % where its untrained neighbour is right in 89 %. */
const everybody = `images: ${atAndT}/images\n  labels: ${atAndT}/labels.csv\n  alreadyCropped: true`;

const settings = `
settings: {rounds: 3, initiatingRounds: 0, coolingRounds: 0, rMax: 8, rMin: 4, training: {batchSize: 16, epochs: 2}}
`;

/** With the defaults of a new run but for the schedule. */
async function expectRise(name: string, data: string, base: string, strategies: string, rest = settings) {
  const runs = await simulate(name, data, base, `${rest}strategies: ${strategies}\n`);
  for (const run of runs) {
    const { untrained, first, last } = ended(run);
    expect(run.config).toMatchObject({ headStart: 'prototypes', gallery: 'ends' });
    expect.soft(first, `${run.label}: class means against ${untrained}`).toBeGreaterThanOrEqual(untrained);
    // Nothing is above all of them.
    const floor = Math.min(untrained, 1 - 1e-9);
    expect.soft(last, `${run.label}: at the end against ${untrained}`).toBeGreaterThan(floor);
  }
  return runs;
}

describe('on generated faces', () => {
  test('the built-in network begins at its untrained nearest neighbour or above, and ends above', async () => {
    await expectRise('built-in', faces, '{id: face-resnet-128}', '[sa-fedlora]');
  });

  test('so do random features of the kind of MobileFaceNet', async () => {
    await expectRise(
      'random',
      faces,
      `{path: ${folder}/random.onnx, id: random, ${halves}}`,
      '[sa-fedlora, head-only]',
    );
  });
});

describe.skipIf(!existsSync(atAndT))('on faces of AT&T', () => {
  test('the built-in network loses nothing to its classifier, and classes that were not trained are found', async () => {
    const [run] = await expectRise('at-and-t', olivetti, '{id: face-resnet-128}', '[sa-fedlora]');

    expect(run!.final.metrics!.gallery!.rare!.total).toBeGreaterThan(0);
  });

  test.skipIf(!existsSync(realMobileFaceNet))(
    'nor does a real MobileFaceNet',
    { timeout: 420_000 },
    async () => {
      await expectRise(
        'mobile',
        everybody,
        `{path: ${realMobileFaceNet}, id: mobile, ${halves}}`,
        '[sa-fedlora]',
        '\nsettings: {rounds: 4, training: {batchSize: 16, epochs: 1}}\n',
      );
    },
  );
});
