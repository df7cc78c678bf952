import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { startFederation, until } from '../fixtures/federation.ts';

const model = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));

test('a run on an imported base: a site that lacks it says what to import, and trains once it has it', async () => {
  await using federation = await startFederation(2, { policy: openPolicy });
  const [holder, lacking] = federation.sites.map((site) => site.agent.client);
  const { client } = federation.coordinator;
  const catalogueOf = async (agent: typeof client) =>
    createCatalogue(join((await agent.status.query()).dataFolder, 'models'));
  const { sha256 } = await (await catalogueOf(client)).import(model, { id: 'tiny-dino' });
  // The same model under a name of the site's own.
  await (await catalogueOf(holder!)).import(model, { id: 'our-dino' });

  await client.coordinator.startRun.mutate({
    baseId: 'tiny-dino',
    classes: federation.classes,
    rounds: 2,
    quorum: 2,
    initiatingRounds: 1,
    heatingRounds: 0,
    coolingRounds: 0,
    rMax: 4,
    rMin: 2,
    targetModules: 'attention',
    training: { batchSize: 4, epochs: 1 },
  });
  const problem = await until('the site to say what is missing', async () => {
    const status = await lacking!.status.query();
    return status.problem?.code === 'MODEL_UNKNOWN' && status.problem;
  });
  const before = await federation.run();
  await (await catalogueOf(lacking!)).import(model, { id: 'tiny-dino' });
  const run = await until('the run to finish', async () => {
    const current = await federation.run();
    return current.status === 'finished' && current;
  });

  expect((await client.baseModels.query()).map((entry) => entry.id)).toEqual([
    'face-resnet-128',
    'tiny-dino',
  ]);
  expect(problem.action).toContain(sha256);
  expect(before.done.every((round) => round.status !== 'closed')).toBe(true);
  expect(run.done.map((round) => round.sites.map((site) => site.status))).toEqual([
    ['received', 'received'],
    ['received', 'received'],
  ]);
  expect((await lacking!.status.query()).problem).toBeNull();
}, 240_000);
