/** What a site fetches is held against the contract: sizes before the first chunk, every tensor before it is used. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { defaultRunConfig, type RunConfig } from '../../core/config/run-config.ts';
import type { ModelState } from '../../core/lora/model-state.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { createRandom } from '../../core/shared/random.ts';
import { createRoundStates, type RoundContext } from '../../core/site/round-state.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeFrozenBase, encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type { BlobReference } from '../../core/transport/messages.ts';
import { randomLayer, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const configOf = (change: Partial<RunConfig> = {}) =>
  defaultRunConfig({
    ...{
      baseId: base.id,
      baseSha256: base.sha256,
      classes: ['a', 'b', 'c'],
      rMax: 4,
      targetModules: ['body.q'],
    },
    ...change,
  });

/** A site, and a coordinator's folder from which it fetches whatever it asks for. */
function openPair(config: RunConfig) {
  const [opened, folder] = [openTestStore(), temporaryFolder()];
  const blobs = createBlobStore(path.join(folder.dir, 'blobs'));
  const offered = new Map<string, Uint8Array>();
  const fetched: string[] = [];
  const states = createRoundStates({
    ...{ store: opened.store, blobs, workFolder: path.join(folder.dir, 'work'), siteName: 'clinic' },
    ports: {
      async fetch({ sha256: wanted }) {
        fetched.push(wanted);
        await blobs.put(offered.get(wanted)!);
      },
    },
    loadBase: async () => base,
  });
  const offer = (bytes: Uint8Array): BlobReference => {
    offered.set(sha256(bytes), bytes);
    return { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes: 262_144 };
  };
  const planOf = (round: number) => getStrategy(config.strategy).configureTrain(config, round);
  return {
    fetched,
    offer,
    encode: (state: ModelState, round: number) =>
      encodeGlobalState(state, { config, plan: planOf(round), base }),
    fetch(round: number, state: BlobReference, change: Partial<RoundContext> = {}) {
      const context = {
        ...{ runId: 'run', siteId: 'site', config, baseId: base.id, round, plan: planOf(round) },
        ...{ state, frozenBaseDelta: [], isLast: false, ...change },
      };
      return states.fetch(context, new AbortController().signal, () => {});
    },
    [Symbol.dispose]() {
      for (const each of [opened, folder]) each[Symbol.dispose]();
    },
  };
}

const initial = createRunState(configOf(), base);
const all = createRunState(configOf({ targetModules: 'all' }), base);
const withWeight = (state: ModelState): ModelState => ({
  ...state,
  base: new Map([['body.q.weight', base.weights.get('body.q.weight')!]]),
});
const breach = (message: RegExp) => ({ code: 'CONTRACT_BROKEN', message: expect.stringMatching(message) });

describe('a state is refused', () => {
  test.each<[string, ModelState, RegExp]>([
    ['with more layers than the settings say', all, /nobody asked for/],
    ['with a base weight, in a run of adapters', withWeight(initial), /nobody asked for/],
    [
      'of a higher rank',
      { ...initial, lora: new Map([['body.q', randomLayer('body.q', [20, 12], 5, 2, createRandom(1))]]) },
      /rank 5; the contract says 4/,
    ],
  ])('%s', async (_what, state, message) => {
    using pair = openPair(configOf());
    const bytes = encodeModelState(state);

    await expect(pair.fetch(1, pair.offer(bytes))).rejects.toMatchObject(breach(message));
  });

  test('before its first chunk, when it says that it is larger than a state of the round can be', async () => {
    using pair = openPair(configOf());
    const state = { ...pair.offer(pair.encode(initial, 1)), sizeBytes: 2 * 2 ** 30 };

    await expect(pair.fetch(1, state)).rejects.toMatchObject(breach(/2147483648 bytes; the contract says/));
    expect(pair.fetched).toEqual([]);
  });

  test('before its first chunk, when a first round does not start from the seed', async () => {
    using pair = openPair(configOf());
    const chosen = pair.offer(pair.encode(trainedState(initial, 5), 0));

    await expect(pair.fetch(0, chosen)).rejects.toMatchObject(breach(/the model that its seed gives/));
    expect(pair.fetched).toEqual([]);
    await pair.fetch(0, pair.offer(pair.encode(initial, 0)));
    expect(pair.fetched).toHaveLength(1);
  });

  test('when it is no such file', async () => {
    using pair = openPair(configOf());
    const photograph = pair.offer(new TextEncoder().encode('what the coordinator made of a photograph'));

    await expect(pair.fetch(1, photograph)).rejects.toMatchObject({ code: 'CONTRACT_BROKEN' });
  });

  test('at the end, when its rank is that of an earlier round', async () => {
    using pair = openPair(configOf({ rounds: 3, rMin: 1 }));
    const last = pair.offer(encodeModelState(initial));

    await expect(pair.fetch(2, last, { isLast: true })).rejects.toMatchObject(
      breach(/rank 4; the contract says 1/),
    );
  });

  test('each time, although it is here already', async () => {
    using pair = openPair(configOf());
    const bad = pair.offer(encodeModelState(all));

    for (let tries = 0; tries < 2; tries++)
      await expect(pair.fetch(1, bad)).rejects.toMatchObject({ code: 'CONTRACT_BROKEN' });
  });
});

describe('what lies under a state is refused', () => {
  const freezing = configOf({
    strategy: 'sa-fedlora',
    cutOff: 'freeze',
    initiatingRounds: 0,
    rounds: 4,
    rMin: 1,
  });
  const start = createRunState(freezing, base);
  const partOf = (change: Partial<ModelState>) =>
    encodeFrozenBase({ ...start, lora: new Map(), head: new Map(), ...change }, { config: freezing, base });
  const good = partOf({
    lora: new Map([['body.q', randomLayer('body.q', [20, 12], 1, 1, createRandom(1))]]),
  });
  const stateOf = (pair: ReturnType<typeof openPair>) => {
    const { rank } = getStrategy('sa-fedlora').configureTrain(freezing, 1);
    const lora = new Map([['body.q', randomLayer('body.q', [20, 12], rank, 2, createRandom(2))]]);
    return pair.offer(pair.encode({ ...start, lora }, 1));
  };

  test('before a chunk of it is fetched, when the run puts nothing there, or less', async () => {
    using pair = openPair(configOf());
    using other = openPair(freezing);
    const parts = [1, 2, 3].map((seed) =>
      other.offer(
        partOf({ lora: new Map([['body.q', randomLayer('body.q', [20, 12], seed, 1, createRandom(seed))]]) }),
      ),
    );

    await expect(
      pair.fetch(1, pair.offer(pair.encode(initial, 1)), { frozenBaseDelta: [pair.offer(good)] }),
    ).rejects.toMatchObject(breach(/1 parts lie under it; the contract says 0/));
    await expect(other.fetch(1, stateOf(other), { frozenBaseDelta: parts })).rejects.toMatchObject(
      breach(/3 parts lie under it; the contract says 1/),
    );
    await expect(
      other.fetch(1, stateOf(other), { frozenBaseDelta: [{ ...parts[0]!, sizeBytes: 2 ** 31 }] }),
    ).rejects.toMatchObject(breach(/a part under it has 2147483648 bytes/));
    expect([...pair.fetched, ...other.fetched]).toEqual([]);
    await other.fetch(1, stateOf(other), { frozenBaseDelta: [other.offer(good)] });
  });

  test.each<[string, () => Uint8Array]>([
    ['base weights', () => partOf({ base: withWeight(start).base })],
    [
      'a layer that does not train',
      () =>
        partOf({
          lora: new Map([['stem.conv', randomLayer('stem.conv', [8, 3, 3, 3], 1, 1, createRandom(1))]]),
        }),
    ],
    ['what is no such file', () => new TextEncoder().encode('nothing')],
  ])('when it holds %s', async (_what, bytes) => {
    using pair = openPair(freezing);

    await expect(
      pair.fetch(1, stateOf(pair), { frozenBaseDelta: [pair.offer(bytes())] }),
    ).rejects.toMatchObject({ code: 'CONTRACT_BROKEN' });
  });
});
