/** The command behind docs/results.md, end to end: a tiny data set of generated faces and a small vision transformer. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateDemoFaces } from '../../core/data/demo-faces.ts';
import { readRunLines } from '../../core/simulation/record.ts';
import { writeDocuments } from '../bench/paper/document.ts';
import { readPart } from '../bench/paper/part.ts';
import type { DataSet, Plan } from '../bench/paper/plan-of-runs.ts';
import { runDataSet } from '../bench/paper/run-data-set.ts';

const fixture = fileURLToPath(new URL('../fixtures/peft/small-vit', import.meta.url));
let folder = '';
let dataSet: DataSet;
let plan: Plan;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-paper-'));
  const faces = { sites: 1, seed: 3, subjectsPerSite: 40, imagesPerSubject: 2, withdrawnPerSite: 0 };
  const [site] = await generateDemoFaces({ outFolder: join(folder, 'faces'), ...faces });
  dataSet = {
    name: 'cifar10',
    title: 'Generated faces',
    needs: [],
    data: {
      images: relative(folder, site!.imagesFolder),
      labels: relative(folder, site!.labelsFile),
      maxPerClass: {},
    },
    base: { path: relative(folder, fixture), id: 'small-vit' },
    validationShare: 0.25,
    settings: {
      ...{ rounds: 2, rMax: 4, rMin: 2, initiatingRounds: 1, coolingRounds: 0 },
      training: { epochs: 1, batchSize: 8, augment: false },
    },
    searchSettings: { rounds: 1 },
    rates: {
      learningRate: [1e-3, 1e-2],
      headLearningRate: [1e-2],
      baseLearningRate: [1e-4],
    },
    methods: [
      { name: 'head-only', strategy: 'head-only', tunes: 'headLearningRate', settings: {} },
      { name: 'fedavg-lora', strategy: 'fedavg-lora', tunes: 'learningRate', settings: {} },
      { name: 'sa-fedlora', strategy: 'sa-fedlora', tunes: 'learningRate', settings: { proximal: 1 } },
      {
        ...{
          name: 'sa-fedlora, λ = 0',
          strategy: 'sa-fedlora',
          tunes: 'learningRate',
          follows: 'sa-fedlora',
        },
        settings: { proximal: 0 },
      },
    ],
  };
  plan = { size: 'tiny', sites: 3, alpha: 0.5, seeds: [1, 2], searchSeed: 101, dataSets: [dataSet] };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const silentProgress = () => ({ onImport() {}, begin() {}, onEvent() {}, end() {} });

test('an interrupted table goes on, and its page and figures come from the runs', async () => {
  const outFolder = join(folder, 'out');
  const abort = new AbortController();
  let events = 0;
  const place = { sharedFolder: folder, outFolder, workers: 2, createProgress: silentProgress };
  const stopping = () => ({
    ...silentProgress(),
    onEvent({ type }: { type: string }) {
      if (type === 'run-ended' && ++events === 4) abort.abort();
    },
  });

  // Act: stopped in the middle, then given again.
  const stopped = runDataSet(plan, dataSet, { ...place, signal: abort.signal, createProgress: stopping });
  await expect(stopped).rejects.toMatchObject({ code: 'CANCELLED' });
  const kept = await readRunLines(join(outFolder, 'runs.jsonl'));
  const part = await runDataSet(plan, dataSet, { ...place, signal: new AbortController().signal });
  await writeDocuments(join(folder, 'docs'), plan, [part], join(folder, 'json', 'results.json'));

  // Assert: nothing ran twice, and what was done before counts.
  const lines = await readRunLines(join(outFolder, 'runs.jsonl'));
  expect(kept.length).toBeGreaterThanOrEqual(4);
  expect(lines.slice(0, kept.length)).toEqual(kept);
  expect(lines).toHaveLength(5 + 4 * 2);
  expect(lines.filter(({ evaluateOn }) => evaluateOn === 'validation')).toHaveLength(5);
  expect(part.failures).toEqual([]);
  expect(part.rows.map(({ strategy }) => strategy)).toEqual(dataSet.methods.map(({ name }) => name));
  expect(part.search.filter(({ chosen }) => chosen)).toHaveLength(3);
  for (const row of part.rows) {
    const own = lines.flatMap((line) =>
      line.status === 'finished' && line.evaluateOn === 'test' && line.label === row.strategy ? [line] : [],
    );
    expect(row.bytesSent).toBe(Math.round((own[0]!.totals.bytesSent + own[1]!.totals.bytesSent) / 2));
    expect(row.accuracies).toEqual(own.sort((a, b) => a.seed - b.seed).map(({ final }) => final.accuracy));
  }
  const rates = new Set(
    lines
      .filter(({ evaluateOn, label }) => evaluateOn === 'test' && label.startsWith('sa-fedlora'))
      .map(({ config }) => config.training.learningRate),
  );
  expect([...rates]).toEqual([
    part.search.find((trial) => trial.strategy === 'sa-fedlora' && trial.chosen)!.value,
  ]);

  const page = await readFile(join(folder, 'docs', 'results.md'), 'utf8');
  for (const { name } of dataSet.methods) expect(page).toContain(`| ${name} |`);
  expect(existsSync(join(folder, 'docs', 'images', 'results-cifar10.svg'))).toBe(true);
  const json = JSON.parse(await readFile(join(folder, 'docs', 'results.json'), 'utf8'));
  expect(json.results).toEqual(part.rows);
  expect(json.search).toEqual(part.search);
  expect(await readFile(join(folder, 'json', 'results.json'), 'utf8')).toBe(
    await readFile(join(folder, 'docs', 'results.json'), 'utf8'),
  );
  expect(await readPart(outFolder, dataSet)).toEqual(part);
  expect(await readPart(outFolder, { ...dataSet, validationShare: 0.3 })).toBeNull();
});
