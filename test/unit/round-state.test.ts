import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { createRandom } from '../../core/shared/random.ts';
import { createFrozenBaseMerge } from '../../core/site/frozen-base-merge.ts';
import { decodeLocalParameters, encodeLocalParameters, takeKept } from '../../core/site/local-parameters.ts';
import { makeUpdate } from '../../core/site/make-update.ts';
import { createRoundStates, type RoundContext } from '../../core/site/round-state.ts';
import { recordRun } from '../../core/site/site-records.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import {
  addFrozenBasePart,
  applyFrozenBaseDelta,
  type MergedWeights,
} from '../../core/strategy/frozen-base-delta.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { decodeUpdate, encodeFrozenBase, encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type { BlobReference } from '../../core/transport/messages.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { randomLayer, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';
import { addRun, openTestStore, temporaryFolder } from '../fixtures/store.ts';

const base = shapeOnlyBase();

function configOf(change: Partial<RunConfig>): RunConfig {
  return defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: ['a', 'b', 'c'],
    rMax: 4,
    ...change,
  });
}

/** Products of rank `r` for every layer. */
function stack(seed: number, r: number): ModelState {
  const random = createRandom(seed);
  const lora = base.layers.map(
    ({ module, weightDims }) => [module, randomLayer(module, weightDims, r, 0.5, random)] as const,
  );
  const { classes } = configOf({});
  return { baseSha256: base.sha256, classes, lora: new Map(lora), head: new Map(), base: new Map() };
}

/** A site's round states over a coordinator that counts what is fetched. */
function setUp(config: RunConfig, siteName = 'clinic') {
  const opened = openTestStore();
  const folder = temporaryFolder();
  const blobs = createBlobStore(path.join(folder.dir, 'blobs'));
  const elsewhere = new Map<string, Uint8Array>();
  const fetched: string[] = [];
  const workFolder = path.join(folder.dir, 'work');
  const states = createRoundStates({
    store: opened.store,
    blobs,
    ports: {
      fetch: async ({ sha256: wanted }) => {
        fetched.push(wanted);
        await blobs.put(elsewhere.get(wanted)!);
      },
    },
    workFolder,
    siteName,
    loadBase: async () => base,
  });
  addRun(opened.store, 'run', 3);
  const offer = (bytes: Uint8Array): BlobReference => {
    elsewhere.set(sha256(bytes), bytes);
    return { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes: 262_144 };
  };
  const plan = getStrategy(config.strategy).configureTrain(config, 1);
  const initial = createRunState(config, base);
  const context = { config, plan, base, initial };
  return {
    store: opened.store,
    blobs,
    fetched,
    states,
    workFolder,
    context,
    initial,
    offer,
    source(state: ModelState, frozenBaseDelta: readonly BlobReference[] = [], round = 1): RoundContext {
      const bytes = encodeGlobalState(state, context);
      return {
        runId: 'run',
        siteId: 'site',
        config,
        baseId: base.id,
        round,
        plan: getStrategy(config.strategy).configureTrain(config, round),
        state: offer(bytes),
        frozenBaseDelta,
        isLast: false,
      };
    },
    async remember(round: number, kept: ModelState, parts: Parameters<typeof takeKept>[1]) {
      const bytes = encodeLocalParameters({ kept: takeKept(kept, parts), residual: null }, kept)!;
      opened.store.siteMemory.put({ runId: 'run', round, sha256: await blobs.put(bytes) });
    },
    [Symbol.dispose]() {
      opened[Symbol.dispose]();
      folder[Symbol.dispose]();
    },
  };
}

const never = new AbortController().signal;
const readState = async (file: string) => decodeModelState(await readFile(file), 'composed');

describe('the state that a site works with', () => {
  test('is the received file itself where nothing is added', async () => {
    using site = setUp(configOf({ strategy: 'sa-fedlora' }));
    const source = site.source(trainedState(site.initial, 1));
    await site.states.fetch(source, never, () => {});

    const composed = await site.states.compose(source, 'train');
    await composed.release();

    expect(composed.stateFile).toBe(site.blobs.path(source.state.sha256));
    expect(existsSync(composed.stateFile)).toBe(true);
    expect(existsSync(site.workFolder)).toBe(false);
  });

  test('has the local parameters of the round before; behind the last round those of the round itself', async () => {
    using site = setUp(configOf({ strategy: 'fedsa-lora', localHead: true }));
    const [mine, newer] = [trainedState(site.initial, 7), trainedState(site.initial, 8)];
    await site.remember(0, mine, { a: false, b: true, head: true, base: false });
    await site.remember(1, newer, { a: false, b: true, head: true, base: false });
    const global = trainedState(site.initial, 1);
    const source = site.source(global);
    await site.states.fetch(source, never, () => {});

    for (const [purpose, own] of [
      ['train', mine],
      ['evaluate', mine],
      ['evaluate-last', newer],
    ] as const) {
      const composed = await site.states.compose(source, purpose);
      const state = await readState(composed.stateFile);
      expect(state.head, purpose).toEqual(own.head);
      for (const [module, { a, b }] of state.lora) {
        expect(a).toEqual(global.lora.get(module)!.a);
        expect(b).toEqual(own.lora.get(module)!.b);
      }
      await composed.release();
      expect(existsSync(composed.stateFile)).toBe(false);
    }
  });

  test('is cut to the site’s own rank for training, and evaluated whole', async () => {
    const config = configOf({ strategy: 'flexlora', siteRanks: { clinic: 2 } });
    using site = setUp(config);
    const global = trainedState(site.initial, 1);
    const source = site.source(global);
    await site.states.fetch(source, never, () => {});

    const trained = await readState((await site.states.compose(source, 'train')).stateFile);
    const evaluated = await readState((await site.states.compose(source, 'evaluate')).stateFile);

    const [{ a, b, r, scale }, whole] = [trained.lora.get('body.q')!, global.lora.get('body.q')!];
    expect([r, scale, a.dims, b.dims]).toEqual([2, whole.scale, [2, 12], [20, 2]]);
    expect([...a.data]).toEqual([...whole.a.data.slice(0, 24)]);
    expect([...b.data.slice(0, 4)]).toEqual([0, 1, 4, 5].map((place) => whole.b.data[place]));
    expect(statesEqual(evaluated, global)).toBe(true);
    using other = setUp(config, 'another');
    const theirs = other.source(global);
    await other.states.fetch(theirs, never, () => {});
    expect((await other.states.compose(theirs, 'train')).stateFile).toBe(
      other.blobs.path(theirs.state.sha256),
    );
  });

  test('lies on a frozen base delta that is fetched once and grows round by round', async () => {
    using site = setUp(configOf({ strategy: 'flora-stack' }));
    const parts = [stack(1, 6), stack(2, 9), stack(3, 4)];
    const references = parts.map((part) => site.offer(encodeFrozenBase(part, site.context)));
    const global = trainedState(site.initial, 1);

    for (const count of [1, 2, 3]) {
      const source = site.source(global, references.slice(0, count), count);
      await site.states.fetch(source, never, () => {});
      const { stateFile } = await site.states.compose(source, 'train');
      expect(
        statesEqual(await readState(stateFile), applyFrozenBaseDelta(base, parts.slice(0, count), global)),
      ).toBe(true);
    }
    expect(site.fetched).toHaveLength(4);
    // Another run's frozen base delta is none of this one's.
    const source = site.source(global, references.slice(1), 2);
    const { stateFile } = await site.states.compose(source, 'train');
    expect(statesEqual(await readState(stateFile), applyFrozenBaseDelta(base, parts.slice(1), global))).toBe(
      true,
    );
  });
});

describe('a merge that sites share', () => {
  const [first, second] = [stack(1, 6), stack(2, 9)];
  const config = configOf({ strategy: 'flora-stack' });
  const initial = createRunState(config, base);
  const files = [first, second].map((part) => encodeFrozenBase(part, { config, base }));
  const frozenBaseDelta = files.map((bytes) => ({
    sha256: sha256(bytes),
    sizeBytes: bytes.length,
    chunkBytes: 262_144,
  }));
  /** Counts reads; the first `failures` of them fail. */
  function blobsThatCount(failures = 0) {
    const read: string[] = [];
    return {
      read: async (wanted: string) => {
        read.push(wanted);
        if (read.length <= failures) throw new Error('gone');
        return Uint8Array.from(files[frozenBaseDelta.findIndex((each) => each.sha256 === wanted)]!);
      },
      count: () => read.length,
    };
  }
  const bits = (merged: MergedWeights) => new Map([...merged].sort());

  test('reads each part once, whoever asks, and gives all the same weights', async () => {
    const shared = createFrozenBaseMerge();
    const blobs = blobsThatCount();
    const ask = (parts: typeof frozenBaseDelta) =>
      shared.merge({ config, frozenBaseDelta: parts }, base, initial, blobs);

    const [one, other] = await Promise.all([
      ask(frozenBaseDelta.slice(0, 1)),
      ask(frozenBaseDelta.slice(0, 1)),
    ]);
    const both = await Promise.all([ask(frozenBaseDelta), ask(frozenBaseDelta)]);

    expect(other).toBe(one);
    expect(both[1]).toBe(both[0]);
    expect(blobs.count()).toBe(2);
    let expected: MergedWeights = new Map();
    for (const part of [first, second]) expected = addFrozenBasePart(base, expected, part);
    expect(bits(both[0]!)).toEqual(bits(expected));
  });

  test('reads a part again that could not be read', async () => {
    const shared = createFrozenBaseMerge();
    const blobs = blobsThatCount(1);
    const ask = () => shared.merge({ config, frozenBaseDelta }, base, initial, blobs);

    await expect(Promise.all([ask(), ask()])).rejects.toThrow('gone');

    expect((await ask()).size).toBe(base.layers.length);
  });
});

describe('a frozen base delta', () => {
  test('is the sum of its products on the base weights that it replaces, below those of the state', () => {
    const [first, second] = [stack(1, 6), { ...stack(2, 9), base: new Map() }];
    const ownWeight = trainedState(first, 5, { base, baseNames: ['stem.conv.weight'] }).base;
    const state = { ...createRunState(configOf({}), base), base: ownWeight };
    const bias = { ...first.lora.get('body.q')!.a, dims: [20], data: new Float32Array(20).fill(3) };
    const withBias = { ...first, base: new Map([['body.q.bias', bias]]) };

    const applied = applyFrozenBaseDelta(base, [withBias, second], state);

    expect(applied.lora).toBe(state.lora);
    expect(applied.base.get('body.q.bias')).toEqual(bias);
    expect(applied.base.get('stem.conv.weight')).toBe(ownWeight.get('stem.conv.weight'));
    const weight = base.weights.get('body.q.weight')!.data;
    const deltas = [first, second].map((part) => deltaWeight(part.lora.get('body.q')!).data);
    applied.base.get('body.q.weight')!.data.forEach((value, i) => {
      expect(Math.abs(value - (weight[i]! + deltas[0]![i]! + deltas[1]![i]!))).toBeLessThan(1e-5);
    });
    expect(base.weights.get('body.q.weight')!.data).toEqual(
      shapeOnlyBase().weights.get('body.q.weight')!.data,
    );
  });

  test('gives the same bits part by part and at once, and is refused for another base model', () => {
    const parts = [stack(1, 6), stack(2, 9)];
    const state = createRunState(configOf({}), base);
    let merged: MergedWeights = new Map();
    for (const part of parts) merged = addFrozenBasePart(base, merged, part);

    expect(new Map([...applyFrozenBaseDelta(base, parts, state).base].sort())).toEqual(
      new Map([...merged].sort()),
    );
    const foreign = { ...parts[0]!, baseSha256: 'cd'.repeat(32) };
    expect(() => applyFrozenBaseDelta(base, [foreign], state)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });
});

describe('the file of local parameters', () => {
  const state = trainedState(createRunState(configOf({}), base), 3);
  const bytes = encodeLocalParameters(
    { kept: takeKept(state, { a: true, b: false, head: true, base: false }), residual: null },
    state,
  )!;

  test('comes back as it was, and is none when nothing stays', () => {
    const { kept, residual } = decodeLocalParameters(bytes, 'own', state);

    expect(kept.get('head.bias')).toEqual(state.head.get('bias'));
    expect(kept.has('lora.body.q.b')).toBe(false);
    expect(residual).toBeNull();
    expect(encodeLocalParameters({ kept: new Map(), residual: null }, state)).toBeNull();
  });

  test.each([
    ['of other classes', { ...state, classes: ['x', 'y', 'z'] }, bytes, 'classes'],
    ['of another base model', { ...state, baseSha256: 'cd'.repeat(32) }, bytes, 'another base model'],
    ['that is another file', state, encodeModelState(state), 'metadata'],
  ])('%s is refused', (_what, expected, file, sentence) => {
    const read = () => decodeLocalParameters(file, 'own', expected);
    expect(read).toThrow(expect.objectContaining({ code: 'MODEL_FILE_INVALID' }));
    expect(read).toThrow(sentence);
  });
});

describe('noise at the site', async () => {
  const privacy = { at: 'site' as const, clipNorm: 0.5, noiseMultiplier: 2, delta: 1e-5 };
  const options = (change: Partial<RunConfig>) => {
    const config = configOf({ strategy: 'fedsa-lora', localHead: true, privacy, ...change });
    const start = createRunState(config, base);
    const plan = getStrategy(config.strategy).configureTrain(config, 0);
    return { config, plan, base, start, trained: trainedState(start, 3) };
  };
  const make = ({ config, plan, start, trained }: ReturnType<typeof options>, seed: number) =>
    makeUpdate({
      ...{ config, plan, file: encodeModelState(trained), noise: createRandom(seed) },
      start: async () => ({ base, start, own: null }),
    });
  const change = (made: { bytes: Uint8Array }, given: ReturnType<typeof options>) => {
    const arrived = decodeUpdate(made.bytes, 'update', given);
    return [...arrived.lora].flatMap(([module, { a }]) =>
      [...a.data].map((value, i) => value - given.start.lora.get(module)!.a.data[i]!),
    );
  };

  test('is added to what travels alone, after clipping; what stays is as it was trained', async () => {
    const given = options({});
    const made = await make(given, 1);

    const { kept } = decodeLocalParameters(made.memory!, 'own', given.start);
    expect(kept.get('head.weight')).toEqual(given.trained.head.get('weight'));
    expect(kept.get('lora.body.q.b')).toEqual(given.trained.lora.get('body.q')!.b);
    const values = change(made, given);
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    // 444 values with N(0, (2·0.5)²) and a change of norm 0.5 under it.
    expect(values).toHaveLength(4 * (27 + 72 + 12));
    expect(deviation).toBeGreaterThan(0.9);
    expect(deviation).toBeLessThan(1.1);
    expect(made.clipped).toMatchObject({ factor: expect.closeTo(0.5 / made.clipped!.norm, 6) });
  });

  test('leaves nothing of the unprotected change in what rounding left over', async () => {
    const given = options({ wire: { up: 'int8', down: 'fp32', errorFeedback: true } });
    const made = await make(given, 1);
    const another = await make(given, 2);

    const left = decodeLocalParameters(made.memory!, 'own', given.start).residual!;
    const arrived = decodeUpdate(made.bytes, 'update', given).lora.get('body.q')!.a.data;
    const exact = await make(options({}), 1);
    const wanted = decodeUpdate(exact.bytes, 'update', options({})).lora.get('body.q')!.a.data;
    left.get('lora.body.q.lora_A.weight')!.data.forEach((value, i) => {
      expect(Math.abs(arrived[i]! + value - wanted[i]!)).toBeLessThan(1e-5);
    });
    expect(another.bytes).not.toEqual(made.bytes);
  });

  test('is not added when the coordinator adds it', async () => {
    const given = options({ privacy: { ...privacy, at: 'coordinator' } });
    const made = await make(given, 1);

    expect(made.clipped).toBeNull();
    const arrived = decodeUpdate(made.bytes, 'update', given);
    expect(arrived.lora.get('body.q')!.a).toEqual(given.trained.lora.get('body.q')!.a);
  });

  test('is no reason to change a whole update in float32 of a run without it, which is the trained file', async () => {
    const config = configOf({ strategy: 'sa-fedlora' });
    const start = createRunState(config, base);
    const file = encodeModelState(trainedState(start, 3));
    const made = await makeUpdate({
      ...{ config, plan: getStrategy(config.strategy).configureTrain(config, 0), file },
      noise: createRandom(1),
      start: () => Promise.reject(new Error('nobody needs what the round started from')),
    });

    expect(made.bytes).toBe(file);
    expect(made).toMatchObject({ memory: null, clipped: null });
  });
});

test('a round that an older version began gets the list of what lies under it from the next manifest', () => {
  using opened = openTestStore();
  const { rounds } = opened.store;
  const reference = (text: string) => ({ sha256: sha256(text), sizeBytes: 1, chunkBytes: 1024 });
  const part = reference('part');
  const manifest = manifestOf(configOf({}), null, 0, reference('state'), { frozenBaseDelta: [part] });
  recordRun(opened.store, manifest);
  rounds.update('run', 0, { frozenBaseParts: null, meanLoss: 3 });

  recordRun(opened.store, manifest);

  expect(rounds.get('run', 0)).toMatchObject({ frozenBaseParts: [part.sha256], meanLoss: 3 });
});
