/** Every strategy, and some mixes of options, over real processes, broker and trainer. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunDetail } from '../../core/api/contract.ts';
import type { RunSettings } from '../../core/config/run-config.ts';
import { mergeState } from '../../core/lora/merge.ts';
import { decodeSafetensors } from '../../core/lora/safetensors.ts';
import { importPeftFolder } from '../../core/models/peft-import.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openReadOnlyStore } from '../../core/store/store.ts';
import { epsilonOfParticipations } from '../../core/strategy/privacy/accountant.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { startFederation, type TestFederation, until } from '../fixtures/federation.ts';

const testTimeoutMs = 120_000;
const short: RunSettings = {
  rounds: 2,
  quorum: 3,
  initiatingRounds: 0,
  heatingRounds: 0,
  coolingRounds: 0,
  rMax: 4,
  rMin: 2,
  headStart: 'random',
  targetModules: 'level-256',
  training: { batchSize: 8, epochs: 1 },
};

let federation: TestFederation;
let folder: string;
beforeAll(async () => {
  // Also whole models, two sites, and a single epoch over few images: what travels and what comes of it is the subject.
  federation = await startFederation(3, { policy: openPolicy, subjectsPerSite: 10 });
  folder = await mkdtemp(join(tmpdir(), 'anneal-export-'));
}, testTimeoutMs);
afterAll(async () => {
  await federation[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

// Another seed for each run: sites would have the same first state already, and not fetch it again.
let runs = 0;
async function start(settings: RunSettings): Promise<void> {
  const { client } = federation.coordinator;
  runs++;
  await client.coordinator.startRun.mutate({
    classes: federation.classes,
    seed: runs,
    ...short,
    ...settings,
  });
}

const isOver = (run: RunDetail) => run.status === 'finished' || run.failure !== null;

async function runToEnd(settings: RunSettings): Promise<RunDetail> {
  await start(settings);
  return until('the run to finish', async () => {
    const run = await federation.run();
    return isOver(run) && run;
  });
}

/** What the same settings are planned to cost. */
async function planned(settings: RunSettings) {
  const { client } = federation.coordinator;
  const { totals } = await client.coordinator.plan.query({
    classes: federation.classes,
    seed: runs,
    ...short,
    ...settings,
    sites: 3,
  });
  return totals;
}

/** @param saysLoss false where sites add noise: their losses stay */
function expectWhole(run: RunDetail, saysLoss = true): void {
  expect(run.failure).toBeNull();
  for (const round of run.done) {
    expect(round.sites.map((site) => site.reason)).toEqual(round.sites.map(() => null));
    expect(round.sites.every((site) => site.status === 'received')).toBe(true);
    expect([Number.isFinite(round.meanLoss), round.accuracy !== null]).toEqual([saysLoss, true]);
    expect(round.drift!.share).toBeGreaterThan(0);
    expect(round.drift!.share).toBeLessThanOrEqual(1);
  }
}

const siteName = (index: number) => federation.sites[index]!.name;

describe('every strategy runs over the real federation and sends what was planned', () => {
  const mixes: [string, () => RunSettings][] = [
    [
      'sa-fedlora with an initiating stage of all weights',
      () => ({ initiatingRounds: 1, initiatingMode: 'full' }),
    ],
    [
      'sa-fedlora with A fixed, fp16 down, noise of the coordinator',
      () => ({
        ...{ freezeA: true, initiatingRounds: 0, rounds: 3, shape: 'linear', rMin: 1 },
        wire: { up: 'fp32', down: 'fp16', errorFeedback: false },
        privacy: { at: 'coordinator', clipNorm: 5, noiseMultiplier: 0.01, delta: 1e-5 },
      }),
    ],
    [
      'flexlora, fp16 both ways, momentum',
      () => ({
        strategy: 'flexlora',
        wire: { up: 'fp16', down: 'fp16', errorFeedback: true },
        serverOptimiser: { kind: 'momentum', learningRate: 1, beta: 0.9 },
      }),
    ],
    [
      'hetlora with ranks of their own',
      () => ({ strategy: 'hetlora', siteRanks: { [siteName(0)]: 1, [siteName(1)]: 2 } }),
    ],
    [
      'fedavg-lora, coordinate median',
      () => ({ strategy: 'fedavg-lora', robust: { rule: 'median' }, weighting: 'equal' }),
    ],
    [
      'ffa-lora, FedAdam, int8 up',
      () => ({
        strategy: 'ffa-lora',
        wire: { up: 'int8', down: 'fp32', errorFeedback: true },
        serverOptimiser: { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
      }),
    ],
    ['fedprox-full', () => ({ strategy: 'fedprox-full', rounds: 1 })],
    [
      'fedavg-full, int8 up',
      () => ({
        strategy: 'fedavg-full',
        rounds: 1,
        wire: { up: 'int8', down: 'fp16', errorFeedback: false },
      }),
    ],
    ['head-only', () => ({ strategy: 'head-only', rounds: 1 })],
  ];

  test.each(mixes)(
    '%s',
    async (_name, settingsOf) => {
      const settings = settingsOf();

      const run = await runToEnd(settings);

      expectWhole(run);
      const totals = await planned(settings);
      expect(run.totals.bytesSent).toBe(totals.bytesSent);
      // Values are counted by the share of a file that a chunk is, rounded for each chunk.
      expect(Math.abs(run.totals.parametersSent - totals.parametersSent)).toBeLessThan(100);
    },
    testTimeoutMs,
  );
});

async function exportNewest(format: 'peft' | 'onnx' | 'weights', target: string): Promise<string> {
  const { client } = federation.coordinator;
  const [newest] = await client.adapters.query();
  const path = join(folder, target);
  await client.exportAdapter.mutate({ sha256: newest!.sha256, folder: path, format });
  return path;
}

describe('what a run put under its adapters', () => {
  test.each<[string, () => RunSettings, number]>([
    // Three rounds of the sites' ranks 2, 4 and 4.
    ['flora-stack', () => ({ strategy: 'flora-stack', rounds: 3, siteRanks: { [siteName(0)]: 2 } }), 30],
    // Ranks 4, 3 and 1: what a cut takes off is gone.
    ['sa-fedlora with A fixed', () => ({ freezeA: true, shape: 'linear', rounds: 3, rMin: 1 }), 1],
    // Ranks 4, 3 and 1: one direction froze after the first round, two after the second.
    ['sa-fedlora that freezes', () => ({ cutOff: 'freeze', shape: 'linear', rounds: 3, rMin: 1 }), 4],
  ])(
    '%s: exported as one adapter that makes the very weights of the merged export',
    async (name, settingsOf, rank) => {
      const settings = settingsOf();

      const run = await runToEnd(settings);
      const weights = await exportNewest('weights', `${name}.safetensors`);
      const peft = await exportNewest('peft', name);

      expectWhole(run);
      expect(run.totals.bytesSent).toBe((await planned(settings)).bytesSent);
      const base = await loadBaseModel('face-resnet-128');
      const { state } = await importPeftFolder(peft, base);
      const merged = decodeSafetensors(await readFile(weights), 'weights').tensors;
      expect(new Set([...state.lora.values()].map(({ r }) => r))).toEqual(new Set([rank]));
      for (const [weight, tensor] of mergeState(base, state)) {
        const other = merged.get(weight)!.data;
        const largest = tensor.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        const apart = tensor.data.reduce((most, value, i) => Math.max(most, Math.abs(value - other[i]!)), 0);
        expect(apart).toBeLessThanOrEqual(1e-6 * largest);
      }
      const [module] = state.lora.keys();
      const { weight } = base.layers.find((layer) => layer.module === module)!;
      expect(bytesOf(merged.get(weight)!.data).equals(bytesOf(base.weights.get(weight)!.data))).toBe(false);
    },
    testTimeoutMs,
  );

  test(
    'weights of the base model: no PEFT files, but merged weights and one ONNX file',
    async () => {
      const run = await runToEnd({ initiatingRounds: 1, initiatingMode: 'last-k', lastK: 1 });
      const refusal = await exportNewest('peft', 'changed').catch((error: unknown) => String(error));
      const weights = await exportNewest('weights', 'changed.safetensors');
      const onnx = await exportNewest('onnx', 'changed.onnx');

      expectWhole(run);
      expect(refusal).toMatch(/changed weights of the base model itself/);
      expect(existsSync(join(folder, 'changed'))).toBe(false);
      const base = await loadBaseModel('face-resnet-128');
      const merged = decodeSafetensors(await readFile(weights), 'weights').tensors;
      const file = await readFile(onnx);
      const changed = [...base.weights].filter(
        ([name, { data }]) => !bytesOf(data).equals(bytesOf(merged.get(name)!.data)),
      );
      expect(changed.length).toBeGreaterThan(1);
      // The file has the changed weights, byte for byte.
      for (const [name] of changed) expect(file.includes(bytesOf(merged.get(name)!.data))).toBe(true);
    },
    testTimeoutMs,
  );
});

const bytesOf = (data: Float32Array) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

test(
  'factors and heads that stay at the sites: the coordinator cannot export them, a site can',
  async () => {
    const settings: RunSettings = {
      strategy: 'fedsa-lora',
      localHead: true,
      wire: { up: 'int8', down: 'fp16', errorFeedback: true },
      privacy: { at: 'site', clipNorm: 5, noiseMultiplier: 0.01, delta: 1e-5 },
    };

    const run = await runToEnd(settings);
    const refusal = await exportNewest('peft', 'shared').catch((error: unknown) => String(error));
    const site = federation.sites[0]!.agent.client;
    const [own] = await site.adapters.query();
    await site.exportAdapter.mutate({ sha256: own!.sha256, folder: join(folder, 'own') });

    expectWhole(run, false);
    expect(run.totals.bytesSent).toBe((await planned(settings)).bytesSent);
    expect(refusal).toMatch(/keeps its head to itself/);
    const { state } = await importPeftFolder(join(folder, 'own'), await loadBaseModel('face-resnet-128'));
    for (const { b } of state.lora.values()) expect(b.data.some((value) => value !== 0)).toBe(true);
    expect(state.head.get('weight')!.dims[0]).toBe(federation.classes.length);
  },
  testTimeoutMs,
);

test(
  'noise at the coordinator: epsilon grows with the rounds and stands in the audit trail',
  async () => {
    const privacy = { at: 'coordinator', clipNorm: 1, noiseMultiplier: 2, delta: 1e-5 } as const;

    const run = await runToEnd({ strategy: 'ffa-lora', privacy });

    expectWhole(run);
    expect(run.config.weighting).toBe('equal');
    expect(run.done.map((round) => round.epsilon)).toEqual(
      [1, 2].map((rounds) => epsilonOfParticipations(privacy, rounds)),
    );
    const { rows } = await federation.coordinator.client.audit.query();
    const closed = rows.filter(
      ({ action, details }) => action === 'round-closed' && details['runId'] === run.id,
    );
    expect(closed.map(({ details }) => details['epsilon'])).toEqual(
      run.done.map((round) => round.epsilon).reverse(),
    );
  },
  testTimeoutMs,
);

describe('sites drawn for a round', () => {
  const sampled: RunSettings = {
    strategy: 'flexlora',
    rounds: 3,
    quorum: 2,
    participation: 0.5,
    serverOptimiser: { kind: 'momentum', learningRate: 1, beta: 0.9 },
    seed: 77,
    training: { batchSize: 8, epochs: 3 },
  };
  const siteCalled = (name: string) => federation.sites.find((site) => site.name === name)!;
  const isFile = (sha256: string) =>
    existsSync(join(federation.coordinator.dataFolder, 'blobs', sha256.slice(0, 2), sha256));
  const roundsOf = (runId: string) => {
    const store = openReadOnlyStore(join(federation.coordinator.dataFolder, 'anneal.db'));
    const rounds = store.rounds.listOfRun(runId);
    store.close();
    return rounds;
  };

  test(
    'a coordinator killed between two updates of a round ends with the very model of an undisturbed run',
    async () => {
      const undisturbed = await runToEnd(sampled);

      await start(sampled);
      const drawn = await until('the second round to open', async () => {
        const round = (await federation.run()).done[1];
        return round?.participants;
      });
      const [delivers, dies] = drawn.map(siteCalled);
      await dies!.agent.kill();
      await until('one update to arrive', async () => {
        const round = (await federation.run()).done[1]!;
        return round.sites.some((site) => site.siteName === delivers!.name && site.status === 'received');
      });
      await federation.restartCoordinator();
      await federation.startSite(dies!.name);
      const run = await until('the run to finish', async () => {
        const current = await federation.run();
        return isOver(current) && current;
      });

      expect(run.failure).toBeNull();
      expect(run.done.map((round) => round.participants)).toEqual(
        undisturbed.done.map((round) => round.participants),
      );
      for (const round of run.done) {
        expect(round.participants).toHaveLength(2);
        expect(round.sites.map((site) => site.siteName).sort()).toEqual([...round.participants!].sort());
        expect(round.sites.every((site) => site.status === 'received')).toBe(true);
      }
      const [mine, theirs] = [run, undisturbed].map(({ id }) => roundsOf(id));
      expect(mine!.map((round) => round.resultSha256)).toEqual(theirs!.map((round) => round.resultSha256));
      expect(mine!.map((round) => round.memorySha256)).toEqual(theirs!.map((round) => round.memorySha256));
      expect(mine!.every((round) => round.memorySha256 !== null && !isFile(round.memorySha256))).toBe(true);
      expect(mine!.every((round) => isFile(round.resultSha256!))).toBe(true);
    },
    2 * testTimeoutMs,
  );

  test(
    'when one goes away without which the quorum is not there, another is drawn',
    async () => {
      await start({ ...sampled, rounds: 1, training: { batchSize: 8, epochs: 8 } });
      const [leaves, stays] = await until(
        'the round to open',
        async () => (await federation.run()).done[0]?.participants,
      );
      await siteCalled(leaves!).agent.client.site.pause.mutate();
      const run = await until('the run to finish', async () => {
        const current = await federation.run();
        return isOver(current) && current;
      });
      await siteCalled(leaves!).agent.client.site.resume.mutate();

      const [round] = run.done;
      const other = federation.sites
        .map(({ name }) => name)
        .find((name) => name !== leaves && name !== stays)!;
      expect(run.failure).toBeNull();
      expect(round!.participants).toEqual(expect.arrayContaining([leaves, stays, other]));
      const statuses = Object.fromEntries(round!.sites.map((site) => [site.siteName, site.status]));
      expect(statuses).toEqual({ [leaves!]: 'absent', [stays!]: 'received', [other]: 'received' });
      const { rows } = await federation.coordinator.client.audit.query();
      expect(
        rows.some(({ action, details }) => action === 'participants-added' && details['runId'] === run.id),
      ).toBe(true);
    },
    testTimeoutMs,
  );

  test(
    'a paused site holds nobody up, whether it is drawn or not',
    async () => {
      await start({ ...sampled, seed: 78, rounds: 2 });
      const drawn = await until(
        'the round to open',
        async () => (await federation.run()).done[0]?.participants,
      );
      const paused = federation.sites.find(({ name }) => !drawn.includes(name))!.agent.client;
      await paused.site.pause.mutate();
      const run = await until('the run to finish', async () => {
        const current = await federation.run();
        return isOver(current) && current;
      });
      await paused.site.resume.mutate();

      expect(run.failure).toBeNull();
      expect(
        run.done.map((round) => round.sites.filter((site) => site.status === 'received').length),
      ).toEqual([2, 2]);
    },
    testTimeoutMs,
  );
});
