/** A site's own export of a run that went through a coordinator, broker and trainer of this process. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { exportAdapterOf } from '../../core/agent/export-adapter.ts';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { mergeState } from '../../core/lora/merge.ts';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { decodeModelState } from '../../core/lora/state-file.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { importPeftFolder } from '../../core/models/peft-import.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import type { SimulationImage } from '../../core/simulation/dataset.ts';
import { openFederation } from '../../core/simulation/federation.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { prepareRunFolder, prepareSiteStores } from '../../core/simulation/site-stores.ts';
import { createTrainerPool } from '../../core/simulation/trainer-pool.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { sweepBlobs } from '../../core/store/retention.ts';
import type { Store } from '../../core/store/store.ts';
import { applyFrozenBaseDelta } from '../../core/strategy/frozen-base-delta.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { decodeFrozenBase } from '../../core/strategy/wire/wire.ts';
import { flipBit } from '../fixtures/flip-bit.ts';
import { shapeClasses, writeShapeCrops } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const products = createOnnxRuntimeProducts();

const model = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));
const timeoutMs = 120_000;
const lastRound = 2;

/** Two sites with images of their own finish three rounds; `use` sees the run while it is open. */
async function finishedRun(changes: Partial<RunConfig>) {
  const place = temporaryFolder();
  const modelsFolder = join(place.dir, 'models');
  const catalogue = createCatalogue(modelsFolder);
  await catalogue.import(model, { id: 'dino' });
  const crops = createBlobStore(join(place.dir, 'crops'));
  const sites = [];
  for (const [index, siteId] of ['first', 'second'].entries()) {
    const images: SimulationImage[] = [];
    for (const { file, label } of await writeShapeCrops(join(place.dir, siteId), 3, index)) {
      const bytes = await readFile(file);
      const subject = `${siteId} ${images.length}`;
      images.push({
        ...{ file, sha256: sha256(bytes), cropSha256: await crops.put(bytes), label: shapeClasses[label]! },
        ...{ subject, split: 'train' as const, width: 150, height: 150, cropKind: 'cropped' as const },
      });
    }
    sites.push({ siteId, name: siteId, train: images.slice(3), evaluation: images.slice(0, 3) });
  }
  const defaults = defaultRunConfig({ baseId: 'dino', baseSha256: '', classes: [...shapeClasses] });
  const config = {
    ...defaults,
    ...{ baseSha256: await catalogue.identify('dino'), rounds: lastRound + 1, quorum: 2, rMax: 4, rMin: 1 },
    ...{ initiatingRounds: 0, heatingRounds: 0, coolingRounds: 0, shape: 'linear' as const },
    // Every round trains.
    headStart: 'random' as const,
    training: { ...defaults.training, batchSize: 4 },
    ...changes,
  };
  const folder = join(place.dir, 'run');
  const siteIds = sites.map(({ siteId }) => siteId);
  const template = await prepareSiteStores(join(place.dir, 'sites'), sites, config.purpose);
  await prepareRunFolder(folder, template, siteIds);
  const pool = createTrainerPool({ workers: 1, modelsFolder, logger: silentLogger });
  const ended = Promise.withResolvers<void>();
  let center: Store | undefined;
  const federation = await openFederation({
    ...{ folder, config, sites, crops, catalogue, trainer: pool.forRun(), version: 'test' },
    compute: { engine: 'onnxruntime', device: 'cpu', threads: 1 },
    products,
    // Two sites of six images each.
    policy: openPolicy,
    logger: silentLogger,
    onChange() {
      // Sites are heard before the federation is open.
      const [run] = center?.runs.list() ?? [];
      if (run?.status === 'finished') ended.resolve();
      if (run?.status === 'failed') ended.reject(new Error(run.failure?.message));
    },
    onSiteProblem: (_site, problem) => ended.reject(problem),
  });
  center = federation.store;
  const runId = await federation.start();
  await ended.promise;
  const base = await catalogue.load('dino');
  const { store, blobs } = federation.sites[0]!;
  const update = store.adapters.list({ runId }).find(({ round }) => round === lastRound)!.sha256;
  return {
    base,
    runId,
    /** The site's own store. */
    store,
    restart: () => sweepBlobs(store, blobs),
    updateFile: blobs.path(update),
    target: (format: string) => join(place.dir, format),
    config,
    center: federation.store,
    exportFromCenter: async (hash: string, options: { runId?: string } = {}) => {
      const target = join(place.dir, `center ${options.runId}`);
      const sources = { store: federation.store, blobs: federation.blobs, catalogue, products };
      await exportAdapterOf(sources, hash, target, { format: 'peft', ...options });
      return target;
    },
    export: async (format: 'peft' | 'weights') => {
      const target = join(place.dir, format);
      await exportAdapterOf({ store, blobs, catalogue, products }, update, target, { format });
      return target;
    },
    /** The network that the site trained in the last round, from what the coordinator says lies under it. */
    async expectedWeights() {
      const initial = createRunState(config, base);
      const parts = [];
      for (const { round, frozenBaseSha256 } of federation.store.rounds.listOfRun(runId)) {
        if (round >= lastRound || frozenBaseSha256 === null) continue;
        const bytes = await federation.blobs.read(frozenBaseSha256);
        parts.push(decodeFrozenBase(bytes, 'part', { config, base, initial }));
      }
      const state = decodeModelState(await blobs.read(update), 'update');
      return { parts: parts.length, weights: mergeState(base, applyFrozenBaseDelta(base, parts, state)) };
    },
    async [Symbol.asyncDispose]() {
      await federation.close();
      await pool.close();
      place[Symbol.dispose]();
    },
  };
}

const bytesOf = (data: Float32Array) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const sameBytes = (x: Float32Array, y: Float32Array) => bytesOf(x).equals(bytesOf(y));

describe("a site's own export has what the run had put under its update", () => {
  test.each<[string, Partial<RunConfig>, { parts: number; rank: number }]>([
    // Ranks 4, 3 and 1: one direction froze after the first round, two after the second.
    ['sa-fedlora that freezes', { strategy: 'sa-fedlora', cutOff: 'freeze' }, { parts: 2, rank: 4 }],
    ['sa-fedlora that drops', { strategy: 'sa-fedlora' }, { parts: 0, rank: 1 }],
    // Two rounds of the sites' ranks 1 and 2, and its own.
    [
      'flora-stack',
      { strategy: 'flora-stack', siteRanks: { first: 1, second: 2 } },
      { parts: 2, rank: 2 * 3 + 1 },
    ],
  ])(
    '%s',
    async (_name, changes, expected) => {
      await using run = await finishedRun(changes);
      const { parts, weights } = await run.expectedWeights();
      expect(parts).toBe(expected.parts);

      const merged = decodeSafetensors(await readFile(await run.export('weights')), 'weights').tensors;
      const { state } = await importPeftFolder(await run.export('peft'), run.base);

      const differing = [...weights].filter(([name, { data }]) => !sameBytes(merged.get(name)!.data, data));
      expect(differing.map(([name]) => name)).toEqual([]);
      expect(new Set([...state.lora.values()].map(({ r }) => r))).toEqual(new Set([expected.rank]));
      for (const [name, { data }] of mergeState(run.base, state)) {
        const wanted = weights.get(name)!.data;
        const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        const apart = data.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i]!)), 0);
        expect(apart, name).toBeLessThanOrEqual(1e-6 * largest);
      }

      // As a version before the list would have left it: an error where something may be missing, else the same.
      run.store.rounds.update(run.runId, lastRound, { frozenBaseParts: null });
      const older = run.export('weights');
      if (expected.parts === 0) await older;
      else
        await expect(older).rejects.toMatchObject({
          code: 'NOT_FOUND',
          action: expect.stringMatching(/at the coordinator/),
        });
    },
    timeoutMs,
  );
});

test.each<[string, Partial<RunConfig>]>([
  ['a factor of its own', { strategy: 'fedsa-lora' }],
  ['a head of its own over frozen directions', { cutOff: 'freeze', localHead: true }],
  ['rounded differences', { cutOff: 'freeze', wire: { up: 'int8', down: 'fp16', errorFeedback: true } }],
])(
  'a site exports the same after the run has ended and the agent was started again: %s',
  async (_name, changes) => {
    await using run = await finishedRun(changes);
    const before = await readFile(await run.export('weights'));

    await run.restart();

    expect((await readFile(await run.export('weights'))).equals(before)).toBe(true);
  },
  timeoutMs,
);

test(
  'a file that two runs made is exported with what its own run had put under it',
  async () => {
    await using run = await finishedRun({ cutOff: 'freeze' });
    const { center, runId } = run;
    const first = center.adapters.list({ runId, kind: 'global' }).find(({ round }) => round === 0)!;
    const rankOf = async (folder: string) => {
      const { state } = await importPeftFolder(folder, run.base);
      return Math.max(...[...state.lora.values()].map(({ r }) => r));
    };
    expect(await rankOf(await run.exportFromCenter(first.sha256))).toBe(4);

    // With the same seed a run that drops what is cut off has the same state after its first round.
    center.runs.insert({ id: 'drops', config: { ...run.config, cutOff: 'drop' }, status: 'finished' });
    center.adapters.insert({ ...first, runId: 'drops' });

    await expect(run.exportFromCenter(first.sha256)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      action: expect.stringContaining(runId),
    });
    expect(await rankOf(await run.exportFromCenter(first.sha256, { runId }))).toBe(4);
    expect(await rankOf(await run.exportFromCenter(first.sha256, { runId: 'drops' }))).toBe(3);
  },
  timeoutMs,
);

test(
  'a file that is damaged on the disk is named, and nothing is written',
  async () => {
    await using run = await finishedRun({});
    flipBit(run.updateFile);

    await expect(run.export('weights')).rejects.toMatchObject({ code: 'FILE_DAMAGED' });

    expect(existsSync(run.target('weights'))).toBe(false);
  },
  timeoutMs,
);
