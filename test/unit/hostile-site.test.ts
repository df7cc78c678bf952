/** One real run engine and a site that lies: what it announces, what it claims, what it gets to the others. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { exportAdapterOf } from '../../core/agent/export-adapter.ts';
import { defaultRunConfig, type RunConfig } from '../../core/config/run-config.ts';
import { strategyNameSchema } from '../../core/config/setting.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { addImage, addRun, temporaryFolder } from '../fixtures/store.ts';

const base = shapeOnlyBase();
const catalogue = { ...createCatalogue(), load: async () => base, resolve: async () => base.id };
const statusOf = (run: LoneRun) => run.store.runs.get(runId)!.status;
const auditOf = (run: LoneRun, action: string) =>
  run.store.audit.page({ limit: 1000 }).filter((row) => row.action === action);

/** A finished run with a global state of its own in the registry. */
async function addFinishedRun({ store, blobs }: LoneRun): Promise<Uint8Array> {
  const start = { baseId: base.id, baseSha256: base.sha256, classes: ['a', 'b'] };
  const config = defaultRunConfig({ ...start, rMax: 4, seed: 77 });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const bytes = encodeGlobalState(createRunState(config, base), { config, plan, base });
  store.runs.insert({ id: 'finished', config });
  store.adapters.insert({
    ...{ sha256: await blobs.put(bytes), runId: 'finished', round: -1, kind: 'global' },
    ...{ rank: 4, parameters: 1, sizeBytes: bytes.length },
  });
  store.runs.update('finished', { status: 'finished' });
  return bytes;
}

describe('bytes come only from who announced them, for that announcement', () => {
  test("another run's model is refused unread, and can still be exported", async () => {
    await using run = await openLoneRun(['a', 'b'], { rounds: 2 });
    using folder = temporaryFolder();
    const model = await addFinishedRun(run);

    const receipt = await run.deliver('a', model);
    await run.deliver('a', await run.update(1));
    await run.deliver('b', await run.update(2));

    expect(receipt.reason).toMatch(/not made by this site for this round/);
    expect(run.pulled).not.toContain(sha256(model));
    expect(run.store.rounds.get(runId, 0)!.status).toBe('closed');
    const sources = { ...run, catalogue, products: createOnnxRuntimeProducts() };
    await exportAdapterOf(sources, sha256(model), path.join(folder.dir, 'model'), { format: 'peft' });
    expect(existsSync(path.join(folder.dir, 'model', 'adapter_model.safetensors'))).toBe(true);
  });

  test('nor is any other file that is here already', async () => {
    await using run = await openLoneRun(['a', 'b'], { rounds: 2 });
    const { store, blobs } = run;
    addRun(store, 'earlier');
    const [part, crop, unnamed] = ['frozen base delta', 'crop', 'unnamed'].map((text) => Buffer.from(text));
    store.rounds.update('earlier', 0, { status: 'closed', frozenBaseSha256: await blobs.put(part!) });
    addImage(store, 'P1', 'one', { cropSha256: await blobs.put(crop!) });
    await blobs.put(unnamed!);
    const start = await blobs.read(store.rounds.get(runId, 0)!.startSha256);
    const others = await run.update(2);
    await run.announce('b', others);
    const files = [part!, crop!, unnamed!, start, others];

    const receipts = [];
    for (const bytes of files.slice(0, 4)) receipts.push(await run.deliver('a', bytes));
    await run.announce('a', others);

    const refusal = 'The update was rejected: this file was not made by this site for this round.';
    expect(receipts.map(({ reason }) => reason)).toEqual(Array(4).fill(refusal));
    expect(store.roundSites.get(runId, 0, 'a')).toMatchObject({ status: 'rejected', reason: refusal });
    expect(store.roundSites.get(runId, 0, 'b')!.status).toBe('announced');
    expect(run.pulled).toEqual([sha256(others)]);
    expect(files.slice(0, 4).every((bytes) => blobs.has(sha256(bytes)))).toBe(true);
    expect(run.faults).toEqual(Array(5).fill('a announcement'));
    expect(store.updateArrivals.ofSite(runId, 0, 'a')).toEqual([]);
  });

  test('but its own, of which it announced another one meanwhile', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const [first, second] = [await run.update(1), await run.update(2)];
    await run.announce('a', first);
    await run.announce('a', second);

    const receipt = await run.deliver('a', first);

    expect(receipt.accepted).toBe(true);
  });

  test('more updates than a round has a use for are refused without a row for each', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const size = (await run.update(1)).length;

    for (let i = 0; i < 40; i++) await run.announce('a', new Uint8Array(size).fill(i));

    expect(run.store.updateArrivals.ofSite(runId, 0, 'a')).toHaveLength(8);
    expect(run.store.roundSites.list(runId, 0)).toHaveLength(1);
    expect(run.faults).toEqual(Array(32).fill('a announcement'));
    await vi.waitFor(() => expect(run.blobs.unfinished()).toEqual([]));
    expect(statusOf(run)).toBe('running');
  });
});

describe('the size of an update is known before its first byte', () => {
  const wires = [
    { up: 'fp32', down: 'fp32', errorFeedback: false },
    { up: 'fp16', down: 'fp16', errorFeedback: true },
    { up: 'int8', down: 'fp16', errorFeedback: true },
  ] as const;
  const cases = [
    ...strategyNameSchema.options.flatMap((strategy) =>
      wires.map((wire): Partial<RunConfig> => ({ strategy, wire, initiatingRounds: 0 })),
    ),
    { initiatingMode: 'full' },
    { initiatingMode: 'last-k', lastK: 1 },
    { freezeA: true },
    { localHead: true },
    { siteRanks: { a: 2 } },
    { loraScale: 1 / 3 },
  ] as const satisfies Partial<RunConfig>[];

  test.each(cases.map((change) => [JSON.stringify(change), change] as const))(
    '%s',
    async (_words, change) => {
      await using run = await openLoneRun(['a', 'b'], change);
      const good = await run.update(1, 'a');
      const filler = (sizeBytes: number) => new Uint8Array(sizeBytes).fill(7);

      const tooLarge = await run.deliver('a', filler(good.length + 1));
      const tooSmall = await run.deliver('a', filler(good.length - 1));
      const pulledSoFar = [...run.pulled];
      const right = await run.deliver('a', good);

      const asked = `but this round asks for a file of ${good.length}`;
      expect(tooLarge.reason).toContain(`${good.length + 1} bytes, ${asked}`);
      expect(tooSmall.reason).toContain(`${good.length - 1} bytes, ${asked}`);
      expect(pulledSoFar).toEqual([]);
      expect(right.accepted).toBe(true);
    },
  );

  test('and its chunks have one size', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const bytes = await run.update(1);
    const update = { sha256: sha256(bytes), sizeBytes: bytes.length, chunkBytes: 1024 };

    const body = { runId, round: 0, update, examples: 5, meanLoss: 1, steps: 1 };
    await run.engine.received('a', { type: 'announce', body });

    expect(run.store.roundSites.get(runId, 0, 'a')!.reason).toMatch(/chunks of another size/);
    expect(run.pulled).toEqual([]);
  });
});

describe('nothing that a site says fails the run', () => {
  test('not what the store cannot hold', async () => {
    await using run = await openLoneRun(['a', 'b'], {});
    const [bytes, other] = [await run.update(1), await run.update(2)];

    // Past the schema, as an error in it would let it through.
    await run.announce('a', bytes, { examples: 1e300 });

    expect(run.faults).toEqual(['a message']);
    expect(statusOf(run)).toBe('running');
    expect(run.store.roundSites.get(runId, 0, 'a')).toBeNull();
    expect((await run.deliver('b', other)).accepted).toBe(true);
    expect((await run.deliver('a', bytes)).accepted).toBe(true);
    expect(run.store.rounds.get(runId, 0)!.status).toBe('closed');
  });

  test('not losses and numbers of images whose sums no number holds', async () => {
    await using run = await openLoneRun(['a', 'b', 'c'], { quorum: 3, weightCap: 3 });
    const updates = [await run.update(1), await run.update(2), await run.update(3)];
    await run.deliver('a', updates[0]!, { examples: 9e15, meanLoss: 1e308 });
    await run.deliver('b', updates[1]!, { examples: 9e15, meanLoss: 1e308 });

    await run.deliver('c', updates[2]!);

    const { status, meanLoss } = run.store.rounds.get(runId, 0)!;
    expect(status).toBe('closed');
    expect(Math.abs(meanLoss!)).toBeLessThanOrEqual(1e6);
    expect(statusOf(run)).toBe('running');
  });

  test('not counts that cannot be added up', async () => {
    await using run = await openLoneRun(['a'], { rounds: 1 });
    const stateSha256 = run.store.rounds.get(runId, 0)!.startSha256;
    const counts = { smallCell: 1, classes: 3, total: 9, correct: 3, top5: null };
    const body = {
      ...{ runId, stateSha256, correct: 3, total: 9 },
      counts: { ...counts, perClass: null, calibration: null, scores: null },
    };

    await run.engine.received('a', { type: 'evaluation', body });

    expect(run.faults).toEqual(['a message']);
    expect(run.store.evaluations.ofRun(runId)).toEqual([]);
  });

  test('not a stored report that is none: the figures are those of the others', async () => {
    await using run = await openLoneRun(['a', 'b'], { rounds: 1 });
    await run.deliver('a', await run.update(1));
    await run.deliver('b', await run.update(2));
    const { resultSha256: stateSha256 } = run.store.rounds.get(runId, 0)!;
    const whole = { perClass: null, calibration: null, scores: null, top5: null };
    const counts = { smallCell: 5, classes: 2, total: 20, correct: 15, ...whole };
    run.store.evaluations.upsert({
      ...{ runId, stateSha256: stateSha256!, siteId: 'a', correct: 1, total: 2, counts: { nonsense: 1 } },
    });

    const body = { runId, stateSha256: stateSha256!, correct: 15, total: 20, counts };
    await run.engine.received('b', { type: 'evaluation', body });
    await run.engine.received('a', { type: 'declined', body: { runId, round: 0, reason: 'paused' } });

    await vi.waitFor(() => expect(statusOf(run)).toBe('finished'));
    expect(run.store.rounds.get(runId, 0)).toMatchObject({ accuracy: 0.75, metrics: { total: 20 } });
  });
});

describe('an update that stops the merge is dropped', () => {
  /** What no rule foresaw before it was accepted. */
  const spoil = (run: LoneRun, siteId: string) =>
    run.store.roundSites.upsert({ runId, round: 0, siteId, examples: 0 });

  test('and the others are merged without it', async () => {
    await using run = await openLoneRun(['a', 'b', 'c'], { quorum: 2 });
    const bad = await run.update(1);
    await run.deliver('a', bad);
    spoil(run, 'a');
    await run.deliver('b', await run.update(2));

    await run.deliver('c', await run.update(3));

    expect(run.store.rounds.get(runId, 0)!.status).toBe('closed');
    expect(run.store.roundSites.list(runId, 0).map(({ status }) => status)).toEqual([
      'rejected',
      'received',
      'received',
    ]);
    expect(run.store.roundSites.get(runId, 0, 'a')!.reason).toMatch(/how many images/);
    expect(run.faults).toEqual(['a update']);
    expect(run.blobs.has(sha256(bad))).toBe(false);
    expect(auditOf(run, 'round-closed')[0]!.details['sites']).toEqual(['b', 'c']);
  });

  test('and the round waits on where too few are left', async () => {
    await using run = await openLoneRun(['a', 'b'], { quorum: 2 });
    await run.deliver('a', await run.update(1));
    spoil(run, 'a');

    await run.deliver('b', await run.update(2));
    const reopened = run.store.rounds.get(runId, 0)!.status;
    const again = await run.deliver('a', await run.update(3));

    expect(reopened).toBe('open');
    expect(again.accepted).toBe(true);
    expect(run.store.rounds.get(runId, 0)!.status).toBe('closed');
    expect(auditOf(run, 'round-reopened')).toHaveLength(1);
    expect(statusOf(run)).toBe('running');
  });
});
