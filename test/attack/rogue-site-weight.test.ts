/** An enrolled site that wants to count for more than it is. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../fixtures/federation.ts';
import { sharesIn } from './lib/measures.ts';
import type { RogueSite } from './lib/rogue-site.ts';
import {
  encode,
  insist,
  leave,
  modestRun,
  movedHead,
  type Scene,
  startScene,
  startStateOf,
} from './lib/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

let made = 0;

/** Takes part in a one-round run with claims of its own. */
async function takePart(rogue: RogueSite, claim: object) {
  const runId = await scene.startRun(modestRun(scene.federation));
  const start = await startStateOf(rogue, await rogue.manifestOf(runId));
  // Never the same file twice: a file belongs to who made it.
  made += 1;
  const own = movedHead(start, made);
  const update = await rogue.offer(encode(own));
  const body = { runId, round: 0, update, examples: 24, meanLoss: 1, steps: 12, ...claim };
  await rogue.say('announce', body);
  return { runId, start, own, body };
}

/** Evaluates the last state as a site does, with counts of its own. */
async function evaluate(rogue: RogueSite, runId: string, counted: object) {
  const last = await until('the last state', async () => {
    const manifest = rogue.newestManifest;
    return manifest?.runId === runId && manifest.phase === 'evaluate' && manifest.state;
  });
  return { runId, stateSha256: last.sha256, ...counted };
}

/** The rogue's part of the result of the round. */
async function shareOfRogue({ runId, start, own }: Awaited<ReturnType<typeof takePart>>): Promise<number> {
  const updates = await Promise.all(
    scene.federation.sites.map((_site, index) => scene.adapterOf(index, runId, 'update')),
  );
  const result = await scene.adapterOf('coordinator', runId, 'global');
  return Math.abs(sharesIn(result, start, [...updates, own]).at(-1)!);
}

/** Before: 0.9999 of the shared model with a million images, 0.980 with 3,000 (of three sites). */
test.each([1e7, 3_000])('a claim of %d images makes the model no site’s own', async (examples) => {
  await using rogue = await scene.admit({ name: `Boaster ${examples}` });

  const outcome = await takePart(rogue, { examples });
  const receipt = await rogue.receiptFor(outcome.body.update.sha256);
  await leave(rogue);
  const run = await scene.ended(outcome.runId);

  expect(run.status).toBe('finished');
  expect(receipt.accepted).toBe(true);
  // At most three times the median of what four sites say: half of all.
  expect(await shareOfRogue(outcome)).toBeLessThan(0.501);
});

/**
 * Before: 1.000 of the shared model; the run of all failed as DATABASE_DAMAGED, with the advice to restore a backup;
 * an accuracy of 1e-15.
 */
test.each([
  ['9e15 images', { examples: 9e15 }, null],
  ['a loss of 1e308', { meanLoss: 1e308 }, null],
  ['9e15 held-out images', {}, { correct: 9, total: 9e15 }],
  ['a billion held-out images, with counts', {}, hugeCounts(1e9)],
])('a claim of %s is not believed, and whoever insists is not listened to', async (what, claim, counted) => {
  await using rogue = await scene.admit({ name: `Liar ${what}` });
  await scene.newAudit();

  const outcome = await takePart(rogue, claim);
  const reason =
    counted === null
      ? await insist(rogue, 'announce', outcome.body)
      : await insist(rogue, 'evaluation', await evaluate(rogue, outcome.runId, counted));
  await leave(rogue);
  const run = await scene.ended(outcome.runId);

  const { accuracy, metrics, meanLoss } = run.done[0]!;
  expect(run.status).toBe('finished');
  expect(await shareOfRogue(outcome)).toBeLessThan(0.501);
  expect(meanLoss).toBeLessThan(10);
  expect(metrics!.total).toBeLessThan(1_000);
  expect(accuracy).toBeGreaterThan(0.05);
  expect(reason).toMatch(/^The coordinator stopped listening to this site: .+\.$/);
  const details = expect.objectContaining({ siteId: rogue.siteId, reason });
  expect(await scene.newAudit()).toContainEqual(
    expect.objectContaining({ action: 'site-dismissed', details }),
  );
});

/** As a site counts that has so many images: consistent in itself. */
function hugeCounts(total: number) {
  const hidden = { top5: null, perClass: null, calibration: null, scores: null };
  return { correct: 0, total, counts: { smallCell: 5, classes: 4, total, correct: 0, ...hidden } };
}
