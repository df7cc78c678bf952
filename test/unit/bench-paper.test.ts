/** The arithmetic of the paper's table, on runs with made-up results read back from a `runs.jsonl`. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FinishedRun, readRunLines } from '../../core/simulation/record.ts';
import { scenariosOf } from '../../core/simulation/report/scenarios.ts';
import { chooseRates, scoreOf } from '../bench/paper/choice.ts';
import { claimsOf } from '../bench/paper/claims.ts';
import { readPublishedPart, renderPage, writeDocuments } from '../bench/paper/document.ts';
import { requireFiles, searchExperiment, tableExperiment, trialsOf } from '../bench/paper/experiments.ts';
import { readOptions } from '../bench/paper/options.ts';
import type { Part } from '../bench/paper/part.ts';
import {
  type DataSet,
  fullPlan,
  saFedLora,
  saFedLoraFixedA,
  saFedLoraWithoutPull,
  standardPlan,
} from '../bench/paper/plan-of-runs.ts';
import { type ResultRow, rowsOf } from '../bench/paper/table-rows.ts';
import { finishedRun, type MadeUpRun } from '../fixtures/simulated-runs.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-paper-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Rows of these runs, by way of the file that the simulation writes. */
async function rowsFrom(runs: readonly MadeUpRun[]): Promise<ResultRow[]> {
  const file = join(folder, 'runs.jsonl');
  await writeFile(file, runs.map((run) => `${JSON.stringify(finishedRun(run))}\n`).join(''));
  return rowsOf('faces', scenariosOf(await readRunLines(file))[0]!, 2);
}

describe('rowsOf', () => {
  it('gives means, intervals over seeds, and rounds to 95 % of the best mean', async () => {
    const [best, late, never] = await rowsFrom([
      { label: 'best', seed: 2, accuracy: [0.5, 0.8, 0.9] },
      { label: 'best', seed: 1, accuracy: [0.5, 0.7, 0.7] },
      { label: 'late', seed: 1, accuracy: [0.1, 0.2, 0.76], bytesPerRound: 50 },
      { label: 'never', seed: 1, accuracy: [0.1, null, 0.75] },
    ]);
    // The best mean is 0.8, so the target is 0.76; with round 2 the mean of "best" is 0.75.
    expect(best).toMatchObject({ strategy: 'best', seeds: [1, 2], accuracies: [0.7, 0.9], roundsTo95: 3 });
    expect(best!.accuracyMean).toBeCloseTo(0.8, 12);
    // t(0.975, 1) = 12.7062 times 0.1414 / √2.
    expect(best!.accuracyInterval[1] - best!.accuracyMean).toBeCloseTo(12.7062 * 0.1, 4);
    expect(best!.bytesSent).toBe(6000);
    expect(best!.bytesTo95).toBe(6000);
    expect(best!.parametersSent).toBe(1500);
    expect(late).toMatchObject({ roundsTo95: 3, bytesTo95: 300, accuracyInterval: [0.76, 0.76] });
    expect(never).toMatchObject({ roundsTo95: null, bytesTo95: null, accuracyByRound: [0.1, null, 0.75] });
    // Shares of 0.4 and 0.2 in the first two rounds, 0.4 / 3 in the third.
    expect(late!.driftShareInitiating).toBeCloseTo(0.3, 12);
    expect(late!.driftShareMean).toBeCloseTo((0.4 + 0.2 + 0.4 / 3) / 3, 12);
    expect(late!.lowestEnergyKept).toBe(0.98);
  });

  it('takes the first round that reaches the target, though later ones may fall below it', async () => {
    const [row] = await rowsFrom([{ label: 'a', accuracy: [0.2, 0.79, 0.5, 0.8] }]);
    expect(row!.roundsTo95).toBe(2);
  });
});

describe('chooseRates', () => {
  const dataSet = standardPlan().dataSets[0]!;
  const rates = { ...dataSet.rates, learningRate: [0.005, 0.01, 0.02] };
  const trials = trialsOf({ ...dataSet, rates }).filter(({ method }) => method === saFedLora);
  const runsOf = (courses: (number | null)[][]): Map<string, FinishedRun> =>
    new Map(
      courses.map((accuracy, index) => [
        trials[index]!.label,
        finishedRun({ label: trials[index]!.label, accuracy }),
      ]),
    );

  it('chooses by the mean of the last two rounds', () => {
    const { rates, search } = chooseRates(
      'faces',
      trials,
      runsOf([
        [0.9, 0.4, 0.5],
        [0.1, 0.5, 0.5],
        [0.1, 0.2, 0.6],
      ]),
    );
    expect(rates.get(saFedLora)).toBe(trials[1]!.rate);
    expect(search.map(({ chosen }) => chosen)).toEqual([false, true, false]);
    expect(search[2]).toMatchObject({ accuracy: 0.6, score: 0.4, strategy: saFedLora });
  });

  it('takes the lower of equal rates and passes over trials that failed', () => {
    const runs = runsOf([[0.9], [0.5], [0.5]]);
    runs.delete(trials[0]!.label);
    const { rates, search } = chooseRates('faces', trials, runs);
    expect(rates.get(saFedLora)).toBe(trials[1]!.rate);
    expect(search[0]).toMatchObject({ accuracy: null, score: null, chosen: false });
  });

  it('refuses a method without any finished trial', () => {
    expect(() => chooseRates('faces', trials, new Map())).toThrow(/All trials of sa-fedlora on faces failed/);
  });

  it('has no score where the last rounds were not evaluated', () => {
    expect(scoreOf(finishedRun({ accuracy: [0.5, null, null] }))).toBeNull();
    expect(scoreOf(finishedRun({ accuracy: [0.5, 0.4, null] }))).toBe(0.4);
  });
});

describe('claimsOf', () => {
  const row = (strategy: string, over: Partial<ResultRow> = {}): ResultRow => ({
    ...{ dataset: 'faces', strategy, seeds: [1, 2], accuracies: [0.8, 0.8], accuracyMean: 0.8 },
    ...{
      accuracyInterval: [0.8, 0.8],
      accuracyByRound: [0.8],
      macroF1Mean: null,
      calibrationErrorMean: null,
    },
    ...{ roundsTo95: 3, parametersSent: 1000, bytesSent: 4000, bytesTo95: 4000, driftShareMean: 0.5 },
    ...{ driftShareInitiating: 0.5, driftSpreadInitiating: 1, lowestEnergyKept: 1, computeSeconds: 1 },
    ...over,
  });
  const claim = (rows: ResultRow[], id: string) => claimsOf(rows).find((found) => found.id === id)!;

  it('asks for as high an accuracy and 93.62 % fewer parameters than whole-model averaging', () => {
    const full = row('fedavg-full', { parametersSent: 100_000 });
    const dear = { parametersSent: 6381 };
    const cheap = { parametersSent: 6379 };
    expect(claim([row(saFedLora, cheap), full], 'full').holds).toBe(true);
    expect(claim([row(saFedLora, dear), full], 'full').holds).toBe(false);
    expect(claim([row(saFedLora, { ...cheap, accuracyMean: 0.79 }), full], 'full').holds).toBe(false);
    expect(claim([row(saFedLora, cheap), full], 'full').saved).toBeCloseTo(0.93621, 10);
  });

  it('compares bytes with the most accurate of the fixed-rank methods', () => {
    const weak = row('fedavg-lora', { accuracyMean: 0.7, bytesSent: 100_000 });
    const best = row('flexlora', { accuracyMean: 0.8, bytesSent: 5000 });
    const found = claim([weak, best, row(saFedLora, { bytesSent: 3500 })], 'fixed-rank');
    expect(found.evidence).toContain('flexlora');
    expect(found.saved).toBeCloseTo(0.3, 12);
    expect(claim([weak, best, row(saFedLora, { bytesSent: 6000 })], 'fixed-rank')).toMatchObject({
      holds: false,
      evidence: '80.0 % against 80.0 % (flexlora), 20.0 % more bytes',
    });
  });

  it('judges sa-fedlora with A fixed by the same claims, under names of their own', () => {
    const rows = [
      row('fedavg-full', { parametersSent: 100_000 }),
      row('ffa-lora', { bytesSent: 3000 }),
      row(saFedLora, { bytesSent: 3500, accuracyMean: 0.7 }),
      row(saFedLoraFixedA, { bytesSent: 2100, accuracyMean: 0.81 }),
    ];
    const holds = Object.fromEntries(claimsOf(rows).map((each) => [each.id, each.holds]));
    expect(holds).toEqual({
      ...{ full: false, 'full-fixed-a': true, 'fixed-rank': false, 'fixed-rank-fixed-a': true },
    });
    expect(claim(rows, 'fixed-rank-fixed-a').statement).toMatch(/^sa-fedlora, A fixed is /);
  });

  it('pairs differences by seed and leaves seeds out that one of the two lacks', () => {
    const exact = row('flexlora', { seeds: [1, 2, 3], accuracies: [0.5, 0.6, 0.9], accuracyMean: 2 / 3 });
    const factors = row('fedavg-lora', { seeds: [2, 1], accuracies: [0.55, 0.45], accuracyMean: 0.5 });
    const found = claim([exact, factors], 'exact');
    expect(found.accuracyDifference).toBeCloseTo(0.05, 12);
    expect(found.accuracyDifferenceInterval[0]).toBeCloseTo(0.05, 6);
    expect(found).toMatchObject({ holds: true, saved: null });
  });

  it('wants less drift and fewer rounds of the pull, and counts never as the most', () => {
    const pulled = row(saFedLora, { driftSpreadInitiating: 0.5, roundsTo95: 4 });
    const free = (over: Partial<ResultRow>) => row(saFedLoraWithoutPull, over);
    expect(claim([pulled, free({ roundsTo95: null })], 'initiating').holds).toBe(true);
    expect(claim([pulled, free({ roundsTo95: 4 })], 'initiating').holds).toBe(false);
    expect(claim([pulled, free({ driftSpreadInitiating: 0.4, roundsTo95: 5 })], 'initiating').holds).toBe(
      false,
    );
  });

  it('leaves out what it has no rows for', () => {
    expect(claimsOf([row('head-only')])).toEqual([]);
  });
});

describe('the plan of runs', () => {
  const place = { sharedFolder: '/data', outFolder: '/out' };
  const rates = new Map(fullPlan().dataSets[0]!.methods.map(({ name }) => [name, 0.005]));

  it.each([standardPlan(), fullPlan()])(
    'gives every method as many trials, never on test images ($size)',
    (plan) => {
      for (const dataSet of plan.dataSets) {
        const counts = new Set(
          [...Map.groupBy(trialsOf(dataSet), ({ method }) => method).values()].map((own) => own.length),
        );
        expect(counts.size).toBe(1);
        const search = searchExperiment(plan, dataSet, place);
        expect(search.evaluateOn).toBe('validation');
        expect(plan.seeds).not.toContain(search.seeds[0]);
        const table = tableExperiment(plan, dataSet, place, rates);
        expect(table.evaluateOn).toBe('test');
        expect(table.seeds).toEqual(plan.seeds);
        for (const { settings } of table.strategies) {
          expect(Object.values(settings['training'] as Record<string, number>)).toEqual([0.005]);
        }
        for (const { follows } of dataSet.methods) {
          if (follows !== undefined) expect(dataSet.methods.map(({ name }) => name)).toContain(follows);
        }
      }
    },
  );

  it('tries other rates where a method trains so much less that those of the others suit it badly', () => {
    const [dataSet] = standardPlan().dataSets;
    const of = (name: string) =>
      trialsOf(dataSet!).flatMap(({ method, rate }) => (method === name ? rate : []));
    expect(of('fedavg-lora')).toEqual(dataSet!.rates.learningRate);
    for (const name of ['ffa-lora', saFedLoraFixedA])
      expect(of(name)).toEqual(dataSet!.rates.learningRate.map((rate) => 4 * rate));
  });

  it('says which data are not there', async () => {
    const { dataSets } = standardPlan();
    expect(() => requireFiles(dataSets, folder)).toThrow(
      /needs \.\.\/shared\/data\/cifar10\/images, .*\.\.\/shared\/data\/olivetti\/labels\.csv beside this repository/,
    );
    for (const path of dataSets[1]!.needs) await mkdir(join(folder, path), { recursive: true });
    expect(() => requireFiles([dataSets[1]!], folder)).not.toThrow();
    expect(() => requireFiles(dataSets, folder)).toThrow(/cifar10/);
  });

  it('holds every strategy', () => {
    const { dataSets } = standardPlan();
    for (const { methods } of dataSets)
      expect(new Set(methods.map(({ strategy }) => strategy)).size).toBe(10);
  });
});

describe('the command line', () => {
  it('reads its options', () => {
    expect(readOptions(['--only', 'olivetti', '--seeds', '5', '--full'])).toMatchObject({
      ...{ only: 'olivetti', seeds: 5, full: true, json: undefined },
    });
    expect(readOptions(['--help'])).toBeNull();
    expect(() => readOptions(['--only', 'faces'])).toThrow('--only: there is cifar10, olivetti');
    expect(() => readOptions(['--seeds', '0'])).toThrow(/^--seeds: /);
  });
});

describe('what was published', () => {
  it('is read back as it was, by a machine that has not made the runs, unless the settings are others', async () => {
    const docs = join(folder, 'docs');
    const plan = standardPlan();
    const [cifar10, olivetti] = plan.dataSets;
    const partOf = async (dataset: DataSet, accuracy: number): Promise<Part> => {
      const runs = [1, 2].map((seed) => ({ label: saFedLora, seed, accuracy: [0.1, accuracy] }));
      const rows = (await rowsFrom(runs)).map((row) => ({ ...row, dataset: dataset.name }));
      const { versions, machine } = finishedRun();
      return {
        dataset,
        rows,
        images: { train: 9, validation: 3, test: 5 },
        target: 0.5,
        search: [],
        claims: claimsOf(rows),
        failures: [{ dataset: dataset.name, run: 'x', error: 'y' }],
        plots: `<svg>${dataset.name}</svg>`,
        seconds: { searchCompute: 1, tableCompute: 2, wall: 3 },
        versions,
        machine,
      };
    };
    const parts = [await partOf(cifar10!, 0.4), await partOf(olivetti!, 0.6)];
    expect(await readPublishedPart(docs, cifar10!)).toBeNull();

    await writeDocuments(docs, plan, parts);

    for (const part of parts) {
      const found = await readPublishedPart(docs, part.dataset);
      expect(JSON.parse(JSON.stringify(found))).toEqual(JSON.parse(JSON.stringify(part)));
      expect(renderPage(plan, [found!])).toBe(renderPage(plan, [part]));
    }
    const other = { ...cifar10!, settings: { ...cifar10!.settings, rounds: 7 } };
    expect(await readPublishedPart(docs, other)).toBeNull();
  });
});
