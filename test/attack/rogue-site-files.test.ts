/** An enrolled site that sends files which are not its own, too many, or too large. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { type LoraLayer, type ModelState, shapesAtRank } from '../../core/lora/model-state.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { until } from '../fixtures/federation.ts';
import { folderBytes, holdingsOf } from './lib/measures.ts';
import { referenceTo } from './lib/rogue-site.ts';
import { encode, leave, modestRun, type Scene, startScene, startStateOf } from './lib/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

const claim = { examples: 24, meanLoss: 1, steps: 12 };

test('the hash of another run’s model, announced as an update, does not delete that model', async () => {
  const first = await scene.startRun(modestRun(scene.federation));
  await scene.ended(first);
  const { client } = scene.federation.coordinator;
  const adapters = await client.adapters.query();
  const model = adapters.find((row) => row.runId === first && row.round === 0)!;
  await using rogue = await scene.admit({ name: 'Thief' });
  const second = await scene.startRun({ ...modestRun(scene.federation), rMax: 8 });
  await rogue.manifestOf(second);
  await scene.newAudit();

  const update = { sha256: model.sha256, sizeBytes: model.sizeBytes, chunkBytes: 262_144 };
  await rogue.say('announce', { runId: second, round: 0, update, ...claim });
  const receipt = await rogue.receiptFor(model.sha256).catch(() => null);
  await leave(rogue);
  const run = await scene.ended(second);

  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-export-'));
  const exported = await client.exportAdapter
    .mutate({ sha256: model.sha256, runId: first, folder: path.join(folder, 'out') })
    .then(() => readdir(path.join(folder, 'out')))
    .finally(() => rm(folder, { recursive: true, force: true }));
  expect(exported).toContain('adapter_model.safetensors');
  expect(run.status).toBe('finished');
  expect(receipt).toMatchObject({ accepted: false });
});

/** What a site might claim that is no part of the round: as much as it can, or so little that the size says nothing. */
async function withMore(start: ModelState, what: string): Promise<ModelState> {
  const base = await loadBaseModel('face-resnet-128');
  const settings = { baseId: base.id, baseSha256: base.sha256, classes: [...start.classes], rMax: 4 };
  const whole = createRunState(defaultRunConfig({ ...settings, targetModules: 'all' }), base);
  if (what === 'all layers') return { ...whole, head: start.head };
  const lora = new Map(start.lora);
  const [[first, layer] = []] = start.lora;
  const [extra, small] = [...whole.lora].find(([module]) => !lora.has(module))!;
  if (what === 'one layer') lora.set(extra, small);
  else lora.set(first!, { ...layer!, ...zeroFactors(layer!, 2 * layer!.r), r: 2 * layer!.r });
  return { ...start, lora };
}

function zeroFactors(layer: LoraLayer, r: number): Pick<LoraLayer, 'a' | 'b'> {
  const { a, b } = shapesAtRank(layer, r);
  return { a: floatTensor(a.dims), b: floatTensor(b.dims) };
}

test.each(['all layers', 'one layer', 'one layer of twice the rank'])(
  'an update with %s more than its round asked for is refused',
  async (what) => {
    await using rogue = await scene.admit({ name: `Greedy ${what}` });
    const runId = await scene.startRun(modestRun(scene.federation));
    const start = await startStateOf(rogue, await rogue.manifestOf(runId));
    await scene.newAudit();

    const update = await rogue.offer(encode(await withMore(start, what)));
    await rogue.say('announce', { runId, round: 0, update, ...claim });
    const receipt = await rogue.receiptFor(update.sha256);
    await leave(rogue);
    const run = await scene.ended(runId);

    const result = await scene.adapterOf('coordinator', runId, 'global');
    const reason = expect.stringMatching(/^The update was rejected: .*\.$/);
    expect(receipt).toMatchObject({ accepted: false, reason });
    expect([...result.lora.values()].map(({ module, r }) => [module, r])).toEqual(
      [...start.lora.values()].map(({ module, r }) => [module, r]),
    );
    expect(run.status).toBe('finished');
    expect((await scene.newAudit()).map(({ action }) => action)).toContain('update-rejected');
  },
);

/** Says everything at once, and goes on saying it when it is cut off, until time is up. */
async function flood(seconds: number, send: (index: number) => Promise<unknown>): Promise<number> {
  const end = Date.now() + seconds * 1000;
  let sent = 0;
  const speaker = async () => {
    while (Date.now() < end) {
      const index = sent++;
      await send(index).catch(() => new Promise((resolve) => setTimeout(resolve, 20)));
    }
  };
  await Promise.all(Array.from({ length: 16 }, speaker));
  return sent;
}

test('thousands of announcements take no room at the coordinator, and end the connection', async () => {
  await using rogue = await scene.admit({ name: 'Loud' });
  const runId = await scene.startRun(modestRun(scene.federation));
  await rogue.manifestOf(runId);
  const { dataFolder } = scene.federation.coordinator;
  const before = holdingsOf(dataFolder);
  const random = createRandom(1);

  await flood(5, () => {
    const bytes = Float64Array.of(random.normal());
    return rogue.say('announce', {
      runId,
      round: 0,
      update: referenceTo(new Uint8Array(bytes.buffer)),
      ...claim,
    });
  });

  const after = holdingsOf(dataFolder);
  const { cuts } = rogue;
  await leave(rogue);
  const run = await scene.ended(runId);
  expect(after.rows - before.rows).toBeLessThan(100);
  expect(run.status).toBe('finished');
  expect(cuts).toBeGreaterThan(0);
});

test('rejected garbage takes no room at the coordinator, and ends the connection', async () => {
  await using rogue = await scene.admit({ name: 'Dumper' });
  // Long enough that the round is open until the coordinator has had enough.
  const training = { batchSize: 4, epochs: 16 };
  const runId = await scene.startRun({ ...modestRun(scene.federation), training });
  const { state } = await rogue.manifestOf(runId);
  const { dataFolder } = scene.federation.coordinator;
  const before = holdingsOf(dataFolder);
  const files = path.join(dataFolder, 'blobs');
  const filesBefore = folderBytes(files);

  let most = 0;
  const end = Date.now() + 20_000;
  let sent = 0;
  for (; Date.now() < end && rogue.cuts === 0; sent++) {
    const garbage = new Uint8Array(state!.sizeBytes).fill(1);
    new DataView(garbage.buffer).setUint32(0, sent);
    const update = await rogue.offer(garbage);
    await rogue.say('announce', { runId, round: 0, update, ...claim }).catch(() => {});
    await until(
      'an answer',
      async () => rogue.receipts.some((one) => one.updateSha256 === update.sha256),
      1_000,
    ).catch(() => {});
    most = Math.max(most, folderBytes(files) - filesBefore);
  }

  const after = holdingsOf(dataFolder);
  const { cuts } = rogue;
  await leave(rogue);
  const run = await scene.ended(runId);
  expect(after.rows - before.rows).toBeLessThan(100);
  // What three honest sites send, the result of the round, and two that are being looked at.
  expect(most).toBeLessThan(6.5 * state!.sizeBytes);
  expect(run.status).toBe('finished');
  expect(cuts).toBeGreaterThan(0);
});

test('chunks that nobody asked for are neither kept nor counted', async () => {
  await using rogue = await scene.admit({ name: 'Pusher' });
  const runId = await scene.startRun(modestRun(scene.federation));
  await rogue.manifestOf(runId);
  const chunk = new Uint8Array(256 * 1024);
  const digest = referenceTo(chunk).sha256;

  await flood(3, (index) => rogue.push(digest, index % 1000, chunk));

  await leave(rogue);
  const run = await scene.ended(runId);
  const { bytesUp } = run.done[0]!;
  const honest = scene.federation.sites.length * run.plan[0]!.bytesPerSite;
  expect(bytesUp).toBeLessThanOrEqual(honest);
  expect(run.status).toBe('finished');
});
