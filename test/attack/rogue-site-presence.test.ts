/** An enrolled site that makes the others wait, or speaks as one of them. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { leave, modestRun, type Scene, startScene } from './lib/scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => scene?.[Symbol.asyncDispose]());

test('a site that says hello without presence and dies holds up no round', async () => {
  await using rogue = await scene.admit({ name: 'Ghost', presence: false });
  await rogue.die();
  const deadlineMs = 25_000;

  const startedAt = Date.now();
  const runId = await scene.startRun({ ...modestRun(scene.federation), roundDeadlineMs: deadlineMs });
  const run = await scene.ended(runId, 80_000);
  const tookMs = Date.now() - startedAt;

  const { sites } = await scene.federation.coordinator.client.coordinator.overview.query();
  const ghost = sites.find(({ id }) => id === rogue.siteId)!;
  expect(run.status).toBe('finished');
  expect(tookMs).toBeLessThan(deadlineMs);
  expect(ghost.online).toBe(false);
});

test('a site hears and says nothing in the name of another', async () => {
  await using rogue = await scene.admit({ name: 'Mimic' });
  const { federation, signer } = rogue.credentials;
  const topics = createTopics(federation);
  const overview = await scene.federation.coordinator.client.coordinator.overview.query();
  const victim = overview.sites.find((site) => site.id !== rogue.siteId && !site.revoked)!.id;
  const heard: string[] = [];
  const isForRogue = (topic: string) => topic === topics.manifest || topics.siteOf(topic) === rogue.siteId;
  const filters = ['#', 'anneal/#', topics.everySite.messages, topics.everySite.chunks];
  const ofVictim = [
    topics.message(victim, 'up'),
    topics.message(victim, 'down'),
    topics.chunks(victim, 'up'),
  ];
  const refusals = await Promise.all(
    [...filters, ...ofVictim, topics.everySite.enrolments].map((filter) =>
      rogue.link
        .subscribe(filter, ({ topic }) => void (isForRogue(topic) || heard.push(topic)))
        .then(
          () => null,
          (error: Error) => error.message,
        ),
    ),
  );
  const runId = await scene.startRun(modestRun(scene.federation));
  const decline = { runId, round: 0, reason: 'in the name of another' };
  const forged = sealEnvelope(
    { federation, recipient: coordinatorId, type: 'declined', body: decline },
    { ...signer, id: victim },
  );

  // On its own topic, in the other's name; and on the other's topic, which ends the connection.
  await rogue.link.publish(topics.message(rogue.siteId, 'up'), forged);
  await rogue.link.publish(topics.message(victim, 'up'), forged, { timeoutMs: 1_000 }).catch(() => {});
  const { cuts } = rogue;
  await leave(rogue);
  const run = await scene.ended(runId);

  expect(heard).toEqual([]);
  expect(refusals).not.toContain(null);
  expect(cuts).toBeGreaterThan(0);
  const ofOther = run.done[0]!.sites.find(({ siteId }) => siteId === victim)!;
  expect(ofOther).toMatchObject({ status: 'received', reason: null });
});

test('a site marks no model with withdrawals from contributions that it did not make', async () => {
  const runId = await scene.startRun(modestRun(scene.federation));
  const run = await scene.ended(runId);
  await using rogue = await scene.admit({ name: 'Alarmist' });
  const { runs } = await scene.federation.coordinator.client.coordinator.overview.query();

  for (let i = 0; i < 40; i++) {
    const updateSha256 = i.toString(16).padStart(64, '0');
    await rogue.say('withdrawn', { runId, round: i % run.rounds, updateSha256 });
    await rogue.say('withdrawn', { runId: runs.at(-1)!.id, round: 0, updateSha256, subjects: 1_000 });
  }
  await leave(rogue);

  const after = await scene.federation.coordinator.client.coordinator.overview.query();
  expect(after.runs.map(({ withdrawal }) => withdrawal)).toEqual(runs.map(() => null));
});
