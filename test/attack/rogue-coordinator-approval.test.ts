/** A rogue coordinator that was allowed one thing and asks for another. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { demoLabels } from '../../core/data/demo-faces.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { writtenManifest } from '../../core/transport/messages.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { until } from '../fixtures/federation.ts';
import { type Ask, newRun, type RogueCoordinator, startRogueCoordinator } from './lib/rogue-coordinator.ts';
import { leftAfter, startVictim, type Victim } from './lib/victim.ts';

type Settings = Ask['settings'];

const [first, second, third] = demoLabels as [string, string, string];
/** What the hospital's people approve, for this study and not for more. */
const approved = {
  ...{ title: 'A study', classes: [first, second], rounds: 3, quorum: 3, rMax: 4, rMin: 4 },
  ...{ targetModules: ['conv256_1.conv1'], robust: { rule: 'norm-bound', factor: 2 } },
  wire: { up: 'fp16', down: 'fp32', errorFeedback: false },
  privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 0.5, delta: 1e-5 },
  training: { batchSize: 4, epochs: 3, clipNorm: 1 },
} satisfies Settings;

let coordinator: RogueCoordinator;
let victim: Victim;
let base: BaseModel;
beforeAll(async () => {
  coordinator = await startRogueCoordinator();
  victim = await startVictim(coordinator, { approve: false });
  base = await loadBaseModel('face-resnet-128');
  await coordinator.ask({ runId: newRun(), base, settings: approved });
  const card = await until('the card', pending, 10_000);
  const { contractSha256, limits } = card;
  await victim.agent.client.site.approve.mutate({
    contractSha256,
    limits: { ...limits, runs: 100, until: null },
  });
});
afterAll(async () => {
  await victim?.[Symbol.asyncDispose]();
  await coordinator?.[Symbol.asyncDispose]();
});

const pending = async () => (await victim.agent.client.site.requests.query()).pending;

test('a later run that asks for the same is what the person approved', async () => {
  const ask = { runId: newRun(), base, settings: { ...approved, title: 'The study, again' } };

  await coordinator.ask(ask);

  const announced = await coordinator.hears(ask.runId, 'announce');
  expect(announced.body).toMatchObject({ runId: ask.runId, round: 0 });
});

const { training } = approved;
/** Before: each of them was trained and sent without a question. */
const wider: [string, Partial<Settings>][] = [
  ['all layers instead of one', { targetModules: 'all' }],
  ['1000 rounds instead of 3', { rounds: 1000 }],
  ['another class', { classes: [first, third] }],
  ['one more class', { classes: [first, second, third] }],
  ['a quorum of 1 instead of 3', { quorum: 1 }],
  ['a plain mean instead of a norm bound', { robust: { rule: 'mean' } }],
  ['gradients of 1e6 instead of 1', { training: { ...training, clipNorm: 1e6 } }],
  ['no clipping', { training: { ...training, clipNorm: 0 } }],
  ['single images in a step', { training: { ...training, batchSize: 1 } }],
  ['another optimiser', { training: { ...training, optimiser: 'sgd' } }],
  ['a learning rate 100 times as high', { training: { ...training, headLearningRate: 1 } }],
  ['a higher rank', { rMax: 64 }],
  ['finer numbers', { wire: { ...approved.wire, up: 'fp32' } }],
  ['no noise', { privacy: null }],
  ['noise at the coordinator instead of here', { privacy: { ...approved.privacy, at: 'coordinator' } }],
  ['half the noise', { privacy: { ...approved.privacy, noiseMultiplier: 0.25 } }],
  ['updates of a norm of 1e9 instead of 1', { privacy: { ...approved.privacy, clipNorm: 1e9 } }],
  ['single images in the counts', { smallCell: 1 }],
  ['another purpose', { purpose: 'drug-company-study' }],
  ['all weights of the network', { strategy: 'fedavg-full' }],
  ['the head alone, by another method', { strategy: 'head-only' }],
];

test.each(wider)(
  '%s: nothing is trained, and a person is asked or the policy says no',
  async (_what, change) => {
    const ask: Ask = { runId: newRun(), base, settings: { ...approved, ...change } };
    await victim.newAudit();

    const manifest = await coordinator.ask(ask);
    const declined = await coordinator.hears(ask.runId, 'declined', 10_000);
    const left = await leftAfter(coordinator, ask.runId);

    expect(left).toEqual({ updates: 0, evaluations: 0, steps: 0 });
    const reason = declined.body.reason!;
    if ((await victim.activity()) === 'refused') {
      expect(reason).toMatch(/^The policy of this site [^.]+\.$/);
      expect(await victim.problem()).toMatchObject({ code: 'POLICY_REFUSED', message: reason });
      const details = expect.objectContaining({ runId: ask.runId, code: 'POLICY_REFUSED', reason });
      expect(await victim.newAudit()).toContainEqual(
        expect.objectContaining({ action: 'manifest-refused', details }),
      );
    } else {
      expect(reason).toBe('The site has not approved this run yet.');
      expect(await pending()).toMatchObject({
        ...{ runId: ask.runId, contractSha256: manifest.contractSha256 },
        purpose: manifest.config.purpose,
      });
    }
  },
);

test('the whole network in place of its last block is asked for anew', async () => {
  const { site } = victim.agent.client;
  const { policy } = await site.policy.query();
  await site.setPolicy.mutate({ policy: { ...policy, allowBaseWeights: true } });
  const lastBlock: Settings = { ...approved, initiatingMode: 'last-k', lastK: 1, initiatingRounds: 1 };
  const first: Ask = { runId: newRun(), base, settings: lastBlock };
  await coordinator.ask(first);
  const card = await until('the card', async () => {
    const now = await pending();
    return now?.runId === first.runId && now;
  });
  const limits = { ...card.limits, runs: 100, until: null };
  await site.approve.mutate({ contractSha256: card.contractSha256, limits });
  const wider: Ask[] = [{ lastK: 3 }, { initiatingMode: 'full' as const }].map((change) => ({
    ...{ runId: newRun(), base },
    settings: { ...lastBlock, ...change },
  }));

  for (const ask of wider) {
    await coordinator.ask(ask);
    const declined = await coordinator.hears(ask.runId, 'declined', 10_000);
    expect(declined.body.reason).toBe('The site has not approved this run yet.');
    expect(await leftAfter(coordinator, ask.runId)).toEqual({ updates: 0, evaluations: 0, steps: 0 });
  }
  await site.setPolicy.mutate({ policy });
});

test('a contract that is changed after it was approved is refused', async () => {
  const ask = { runId: newRun(), base, settings: approved };
  await coordinator.ask(ask);
  await coordinator.hears(ask.runId, 'announce');
  await victim.newAudit();

  const changed = { ...ask, round: 1, settings: { ...approved, rounds: 1000 } };
  await coordinator.ask(changed);
  await coordinator.hears(ask.runId, 'declined', 10_000);
  // The settings it approved, with the name of another contract.
  const other = await coordinator.manifestFor(changed);
  await coordinator.ask({ ...ask, round: 1, change: { contractSha256: other.contractSha256 } });
  const left = await leftAfter(coordinator, ask.runId);

  expect(left.updates).toBe(1);
  expect(await victim.problem()).toMatchObject({
    code: 'CONTRACT_BROKEN',
    message: 'The coordinator changed the contract of a run that this site knows already.',
  });
  expect((await victim.newAudit()).map(({ action }) => action)).toContain('manifest-refused');
});

test('settings under the name of an approved contract are refused', async () => {
  const innocent = await coordinator.manifestFor({ runId: newRun(), base, settings: approved });
  const ask = { runId: newRun(), base, settings: { ...approved, targetModules: 'all' } };
  await victim.newAudit();

  await coordinator.ask({ ...ask, change: { contractSha256: innocent.contractSha256 } });
  const { reason } = (await coordinator.hears(ask.runId, 'declined', 10_000)).body;
  const left = await leftAfter(coordinator, ask.runId);

  expect(left).toEqual({ updates: 0, evaluations: 0, steps: 0 });
  expect(reason).toBe('The contract of the run is not the one that follows from its settings.');
  expect((await victim.newAudit()).map(({ action }) => action)).toContain('manifest-refused');
});

test('an old manifest says nothing any more, and one of version 0.1 is refused in words', async () => {
  const ask = { runId: newRun(), base, settings: approved };
  const manifest = await coordinator.manifestFor(ask);
  const old = await coordinator.publishRaw(writtenManifest(manifest));
  await coordinator.hears(ask.runId, 'announce');
  const stopped = { ...manifest, phase: 'stopped' as const, state: null, contributors: null };
  await coordinator.publish(stopped);
  await until('the end of the run', async () => (await victim.activity()) === 'waiting', 10_000);
  const said = coordinator.said.length;
  await victim.newAudit();

  await coordinator.replay(old);
  const later = { ...ask, runId: newRun(), settings: { ...approved, targetModules: 'all' } };
  const {
    protocol: _,
    contractSha256: __,
    contributors: ___,
    ...version1
  } = writtenManifest(await coordinator.manifestFor(later));
  await coordinator.publishRaw(version1);
  const problem = await until('the refusal', async () => {
    const now = await victim.problem();
    return now?.code === 'MESSAGE_INVALID' && now;
  });
  const left = await leftAfter(coordinator, later.runId);

  expect(left).toEqual({ updates: 0, evaluations: 0, steps: 0 });
  expect(coordinator.said.slice(said).filter(({ body }) => body.runId === ask.runId)).toEqual([]);
  expect(problem.message).toMatch(/^[^.]+\.$/);
  expect((await victim.newAudit()).map(({ action }) => action)).toContain('manifest-refused');
});
