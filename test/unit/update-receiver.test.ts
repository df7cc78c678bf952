import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { PrivacySettings } from '../../core/config/round-options.ts';
import type { RunConfig } from '../../core/config/run-config.ts';
import { decodeModelState, encodeModelState } from '../../core/lora/state-file.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { epsilonOfParticipations } from '../../core/strategy/privacy/accountant.ts';
import { receiptSchema } from '../../core/transport/messages.ts';
import { openLoneRun, runId } from '../fixtures/lone-run.ts';
import { addImage, addRun } from '../fixtures/store.ts';

const noise = (at: PrivacySettings['at']) =>
  ({ at, clipNorm: 1, noiseMultiplier: 2, delta: 1e-5 }) satisfies PrivacySettings;
const garbage = (sizeBytes: number) => new Uint8Array(sizeBytes).fill(7);

describe('with noise of the sites, ε counts every update that left one', () => {
  const privacy = noise('site');
  const settings = { strategy: 'ffa-lora', rounds: 2, privacy } as const;

  test('a rejected one beside the good one', async () => {
    await using run = await openLoneRun(['a', 'b'], settings);

    const good = await run.update(1);
    const rejected = await run.deliver('a', garbage(good.length));
    const beforeTheEnd = run.store.rounds.get(runId, 0)!.epsilon;
    await run.deliver('a', good);
    await run.deliver('b', await run.update(2));

    expect(rejected.accepted).toBe(false);
    expect(beforeTheEnd).toBe(epsilonOfParticipations(privacy, 1));
    expect(run.store.rounds.get(runId, 0)).toMatchObject({
      status: 'closed',
      epsilon: epsilonOfParticipations(privacy, 2),
    });
  });

  test('one that a second one took the place of, and its file is deleted with the others', async () => {
    await using run = await openLoneRun(['a', 'b'], settings);
    const [withdrawn, second, other] = [await run.update(1), await run.update(2), await run.update(3)];
    // As when a consent is withdrawn meanwhile.
    await run.announce('a', withdrawn);
    await vi.waitFor(() => expect(run.blobs.unfinished()).toHaveLength(1));

    await run.deliver('a', second);
    await vi.waitFor(() => expect(run.blobs.unfinished()).toEqual([]));
    await run.deliver('b', other);

    const { status, epsilon } = run.store.rounds.get(runId, 0)!;
    expect([status, epsilon]).toEqual(['closed', epsilonOfParticipations(privacy, 2)]);
    const left = run.store.updateArrivals.listOfRun(runId).map(({ sha256 }) => sha256);
    expect(left).toHaveLength(3);
    expect(left.filter((sha256) => run.blobs.has(sha256))).toEqual([]);
  });

  test('the same one announced again counts once', async () => {
    await using run = await openLoneRun(['a', 'b'], settings);
    const bytes = await run.update(1);

    await run.deliver('a', bytes);
    await run.deliver('a', bytes);

    expect(run.store.rounds.get(runId, 0)!.epsilon).toBe(epsilonOfParticipations(privacy, 1));
  });
});

test('with noise of the coordinator, ε counts the rounds that a site is part of', async () => {
  const privacy = noise('coordinator');
  await using run = await openLoneRun(['a', 'b'], {
    ...{ strategy: 'ffa-lora', rounds: 2, privacy, weighting: 'equal' },
  });

  const good = await run.update(1);
  await run.deliver('a', garbage(good.length));
  const open = run.store.rounds.get(runId, 0)!.epsilon;
  await run.deliver('a', good);
  await run.deliver('b', await run.update(2));

  expect(open).toBeNull();
  expect(run.store.rounds.get(runId, 0)!.epsilon).toBe(epsilonOfParticipations(privacy, 1));
});

describe('a bad update harms nobody else', () => {
  test('one that is larger than what the round asks for is refused before it is fetched', async () => {
    await using run = await openLoneRun(['a', 'b'], {});

    const receipt = await run.deliver('a', garbage(64), { sizeBytes: 2 ** 31 });
    const again = await run.deliver('a', await run.update(1));

    expect(receipt).toMatchObject({ accepted: false, reason: expect.stringContaining('2147483648 bytes') });
    expect(run.pulled).toHaveLength(1);
    expect(again.accepted).toBe(true);
    expect(run.store.runs.get(runId)!.status).toBe('running');
  });

  test.each(['fp32', 'fp16', 'int8'] as const)('the size in %s is known to the byte', async (up) => {
    const wire = { up, down: 'fp32', errorFeedback: false } as const;
    await using run = await openLoneRun(['a', 'b'], { initiatingMode: 'full', initiatingRounds: 1, wire });
    const [large, good] = [await run.update(1), await run.update(2)];

    const refused = await run.deliver('a', large, { sizeBytes: large.length + 1 });
    const welcome = await run.deliver('a', good);

    expect([refused.accepted, welcome.accepted]).toEqual([false, true]);
  });

  test('one with names of a book is rejected in a sentence', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const state = decodeModelState(await run.update(1), 'update');
    const module = 'x'.repeat(5000);
    const lora = new Map(state.lora).set(module, { ...state.lora.get('body.q')!, module });

    const sizeBytes = (await run.update(1)).length;
    const receipt = await run.deliver('a', encodeModelState({ ...state, lora }), { sizeBytes });

    expect(receipt.accepted).toBe(false);
    expect(receipt.reason).toMatch(/…$/);
    expect(receiptSchema.safeParse(receipt).success).toBe(true);
  });

  test('one that names a blob of another run leaves that blob alone', async () => {
    await using run = await openLoneRun(['a', 'b'], { rounds: 2 });
    const { store, blobs } = run;
    const [state, part, crop] = ['global state', 'frozen base delta', 'crop'].map((text) =>
      Buffer.from(text),
    );
    addRun(store, 'earlier');
    store.rounds.update('earlier', 0, { status: 'closed', frozenBaseSha256: await blobs.put(part!) });
    store.adapters.insert({
      ...{ sha256: await blobs.put(state!), runId: 'earlier', round: 0, kind: 'global' },
      ...{ rank: 4, parameters: 1, sizeBytes: state!.length },
    });
    store.runs.update('earlier', { status: 'finished' });
    addImage(store, 'P1', 'one', { cropSha256: await blobs.put(crop!) });

    const named = [state!, part!, crop!];
    const receipts = [];
    for (const bytes of named) receipts.push(await run.deliver('a', bytes));
    await run.deliver('a', await run.update(1));
    await run.deliver('b', await run.update(2));

    expect(receipts.map(({ accepted }) => accepted)).toEqual([false, false, false]);
    expect(store.rounds.get(runId, 0)!.status).toBe('closed');
    expect(named.map((bytes) => blobs.has(sha256(bytes)))).toEqual([true, true, true]);
  });

  test('one that this site delivered before is its own, also where it became the model of an earlier run', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const { store, blobs } = run;
    const bytes = await run.update(1);
    addRun(store, 'earlier');
    // A run of one site, and then the same again: training repeats to the bit.
    store.updateArrivals.add({ runId: 'earlier', round: 0, siteId: 'a', sha256: await blobs.put(bytes) });
    store.adapters.insert({
      ...{ sha256: sha256(bytes), runId: 'earlier', round: 0, kind: 'global' },
      ...{ rank: 4, parameters: 1, sizeBytes: bytes.length },
    });
    store.runs.update('earlier', { status: 'finished' });

    await run.deliver('b', bytes);
    await run.deliver('a', bytes);

    await vi.waitFor(() => expect(store.roundSites.get(runId, 0, 'a')!.status).toBe('received'));
    expect(store.roundSites.get(runId, 0, 'b')!.status).toBe('rejected');
    expect(run.faults).toEqual(['b announcement']);
    expect(blobs.has(sha256(bytes))).toBe(true);
  });

  test('a rejected one is deleted at once', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const bytes = garbage((await run.update(1)).length);

    await run.deliver('a', bytes);

    await vi.waitFor(() => expect(run.blobs.has(sha256(bytes))).toBe(false));
    expect(run.pulled).toEqual([sha256(bytes)]);
    expect(run.faults).toEqual(['a update']);
  });

  test('one whose file cannot be read at all is rejected, and the run goes on', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const good = await run.update(1);
    const broken = await run.update(2);
    // A folder in its place: an error of the file system that no rule foresees.
    run.onPulled = (sha256) => {
      const place = run.blobs.path(sha256);
      rmSync(place);
      mkdirSync(path.join(place, 'folder'), { recursive: true });
    };

    const receipt = await run.deliver('b', broken);
    run.onPulled = () => {};
    const other = await run.deliver('a', good);

    expect(receipt).toMatchObject({ accepted: false, reason: expect.stringContaining('cannot be read') });
    expect(other.accepted).toBe(true);
    expect(run.store.runs.get(runId)!.status).toBe('running');
  });
});

describe('sites that have too few subjects of every class send the same class means, those of nobody', () => {
  const settings = { headStart: 'prototypes', rounds: 3 } as const;
  test.each<[string, Partial<RunConfig>]>([
    ['as they are', { strategy: 'fedavg-lora' }],
    ['rounded', { strategy: 'sa-fedlora', wire: { up: 'int8', down: 'fp32', errorFeedback: true } }],
    ['with a rule against outliers', { strategy: 'fedavg-lora', robust: { rule: 'median' } }],
  ])('%s: all of them take part, and nothing has to be fetched', async (_, change) => {
    await using run = await openLoneRun(['a', 'b', 'c'], { ...settings, ...change });
    const nothing = await run.noClassMeans();

    const receipts = [
      await run.deliver('a', nothing),
      await run.deliver('b', nothing),
      await run.deliver('c', await run.noClassMeans('c')),
    ];

    expect(receipts.map(({ accepted }) => accepted)).toEqual([true, true, true]);
    expect(run.pulled).toEqual([]);
    await vi.waitFor(() => expect(run.store.runs.get(runId)!.round).toBe(1));
    const next = await run.update(1);
    await run.deliver('a', next);
    const copied = await run.deliver('b', next);
    expect(copied).toMatchObject({ accepted: false });
  });
});
