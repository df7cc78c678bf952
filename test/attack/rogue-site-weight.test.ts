/** An enrolled site that wants to count for more than it is. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../fixtures/federation.ts';
import { sharesIn } from './lib/measures.ts';
import type { RogueSite } from './lib/rogue-site.ts';
import { encode, modestRun, movedHead, type Scene, startScene, startStateOf } from './lib/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

/**
 * Takes part in a one-round run with claims of its own, and gives the run when it is over.
 * @param counted what it says of its held-out images
 */
async function takePart(
  rogue: RogueSite,
  claim: { examples?: number; meanLoss?: number },
  counted = { correct: 0, total: 0 },
) {
  await rogue.hello();
  const runId = await scene.startRun({ ...modestRun(scene.federation), quorum: 3 });
  const start = await startStateOf(rogue, await rogue.manifestOf(runId));
  const own = movedHead(start, 1);
  const update = await rogue.offer(encode(own));
  await rogue.say('announce', { runId, round: 0, update, examples: 24, meanLoss: 1, steps: 12, ...claim });
  const manifest = await until(
    'the last state',
    async () => rogue.newestManifest?.phase === 'evaluate' && rogue.newestManifest,
    20_000,
  ).catch(() => null);
  if (manifest !== null)
    await rogue.say('evaluation', { runId, stateSha256: manifest.state!.sha256, ...counted });
  return { runId, start, own, run: await scene.ended(runId) };
}

/** The rogue's part of the result of the round. */
async function shareOfRogue({ runId, start, own }: Awaited<ReturnType<typeof takePart>>): Promise<number> {
  const updates = await Promise.all(
    scene.federation.sites.map(async (_site, index) => scene.adapterOf(index, runId, 'update')),
  );
  const result = await scene.adapterOf('coordinator', runId, 'global');
  return sharesIn(result, start, [...updates, own])[2]!;
}

/** Today: 1.000 of the global model with 9e15 images, 0.999 with a million. */
test.each([9e15, 1e6, 3_000])('a claim of %d images makes the model no site’s own', async (examples) => {
  await using rogue = await scene.admit({ name: `Boaster ${examples}` });

  const outcome = await takePart(rogue, { examples });

  const share = await shareOfRogue(outcome);
  console.log(examples, outcome.run.status, share);
  expect(outcome.run.status).toBe('finished');
  expect(Math.abs(share)).toBeLessThanOrEqual(0.61);
});

test('a loss of 1e308 fails nobody’s run', async () => {
  await using rogue = await scene.admit({ name: 'Overflow' });

  const { run } = await takePart(rogue, { meanLoss: 1e308 });
  console.log(run.status, run.failure);

  expect(run.status).toBe('finished');
  expect(Number.isFinite(run.done[0]!.meanLoss)).toBe(true);
});

test('a claim of 9e15 held-out images moves no figure', async () => {
  await using rogue = await scene.admit({ name: 'Counter' });

  const { run } = await takePart(rogue, {}, { correct: 9, total: 9e15 });
  console.log(run.status, run.done[0]!.accuracy, run.done[0]!.metrics);

  expect(run.status).toBe('finished');
});
