/** What a coordinator says of a run: contract and contributors in each manifest, and beforehand what sites' policies allow. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { runConfigSchema } from '../../core/config/run-config.ts';
import { defaultSitePolicy, type SitePolicy } from '../../core/config/site-policy.ts';
import { connectCoordinator } from '../../core/coordinator/connection.ts';
import { createCoordinator } from '../../core/coordinator/coordinator.ts';
import { createOnnxRuntimeProducts } from '../../core/engine/onnxruntime/matrix-products.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { checkManifest } from '../../core/site/approval.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { coordinatorId } from '../../core/transport/topics.ts';
import { signerOf } from '../contract/test-brokers.ts';
import { openLoneRun, runId } from '../fixtures/lone-run.ts';
import { askedBy, contractSha256Of } from '../fixtures/manifests.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const base = shapeOnlyBase();

describe('the manifest', () => {
  test('names the contract that a site derives by itself, and passes its checks', async () => {
    await using run = await openLoneRun(['a', 'b', 'c'], {});
    using site = openTestStore();
    const manifest = run.engine.manifest();

    expect(manifest.contractSha256).toBe(contractSha256Of(runConfigSchema.parse(manifest.config), base));
    expect(() => checkManifest(manifest, site.store)).not.toThrow();
  });

  test('says how many sites are behind its state: none at the start, then those that were merged', async () => {
    await using run = await openLoneRun(['a', 'b', 'c'], { quorum: 2, rounds: 2 });
    const seen = [run.engine.manifest().contributors];

    for (const site of ['a', 'b', 'c']) await run.deliver(site, await run.update(site.charCodeAt(0)));
    seen.push(run.engine.manifest().contributors);
    for (const site of ['a', 'b', 'c']) await run.deliver(site, await run.update(9 + site.charCodeAt(0)));

    const last = run.engine.manifest();
    expect([...seen, last.contributors]).toEqual([0, 3, 3]);
    expect(last.phase).toBe('evaluate');
  });

  test('does not count updates that a rule left out', async () => {
    const sites = ['a', 'b', 'c', 'd', 'e'];
    await using run = await openLoneRun(sites, {
      ...{ rounds: 2, weighting: 'equal', robust: { rule: 'multi-krum', byzantine: 1 } },
    });

    for (const site of sites) await run.deliver(site, await run.update(site.charCodeAt(0)));

    const { exclusions, contributors } = run.store.rounds.get(runId, 0)!;
    expect(exclusions).toHaveLength(3);
    expect(contributors).toBe(2);
    expect(run.engine.manifest().contributors).toBe(2);
  });
});

/** A coordinator whose sites have published these policies. */
function openCenter(policies: Record<string, Partial<SitePolicy> | null>) {
  const [opened, folder] = [openTestStore(), temporaryFolder()];
  const { store } = opened;
  for (const [id, policy] of Object.entries(policies)) {
    store.sites.upsert({ id, name: id, publicKey: signerOf(id).publicKey, certificateSerial: 'x' });
    if (policy !== null) store.sites.setPolicy(id, { ...defaultSitePolicy, ...policy });
  }
  const blobs = createBlobStore(path.join(folder.dir, 'blobs'));
  const connection = connectCoordinator({
    ...{ federation: 'test', logger: silentLogger, version: '1', coordinatorName: 'Test' },
    ...{ link: createMemoryBroker().connect({ clientId: coordinatorId }), signer: signerOf(coordinatorId) },
    ...{ store, blobs, onProgress: () => {} },
  });
  const node = createCoordinator({
    ...{ federation: 'test', askedBy, brokerAddress: 'memory', store, blobs, logger: silentLogger },
    catalogue: { ...createCatalogue(), load: async () => base, resolve: async () => base.id },
    ports: connection.ports,
    createInvitation: () => Promise.reject(new Error('none')),
    disconnect: () => {},
    products: createOnnxRuntimeProducts(),
    onChange: () => {},
  });
  return {
    node,
    store,
    async [Symbol.asyncDispose]() {
      await node.close();
      await connection.close();
      for (const each of [opened, folder]) each[Symbol.dispose]();
    },
  };
}

describe('while a run is planned', () => {
  const settings = { baseId: base.id, classes: ['a', 'b'] };

  test('each site answers by the policy that it published, or is not known yet', async () => {
    await using center = openCenter({ open: {}, strict: { maxRounds: 5, minContributors: 4 }, silent: null });

    const { sites, quorum } = await center.node.plan(settings);

    const answers = Object.fromEntries(sites.map(({ siteName, refusals }) => [siteName, refusals]));
    expect(quorum).toBe(3);
    expect(answers).toEqual({
      open: [],
      silent: [],
      strict: [
        expect.stringContaining('at least 4 contributing sites'),
        expect.stringContaining('at most 5 rounds'),
      ],
    });
    expect(sites.find(({ siteName }) => siteName === 'silent')!.policy).toBeNull();
  });

  test('a run for which too few sites would be left is not started', async () => {
    await using center = openCenter({ a: {}, b: {}, strict: { maxRounds: 5 } });

    await expect(center.node.startRun(settings)).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      message: expect.stringMatching(
        /policies of 1 site refuse this run, and its quorum is 3\. strict: .*5 rounds/,
      ),
    });
    expect(center.store.runs.list()).toEqual([]);
    await center.node.startRun({ ...settings, rounds: 5 });
    expect(center.store.runs.list()).toHaveLength(1);
  });

  test('a policy that cannot be read says nothing', async () => {
    await using center = openCenter({ a: {}, b: {}, c: {} });
    center.store.sites.setPolicy('c', { minSubjects: 'many' });

    const { sites } = await center.node.plan(settings);

    expect(sites.map(({ policy, refusals }) => [policy === null, refusals.length])).toEqual([
      [false, 0],
      [false, 0],
      [true, 0],
    ]);
  });
});

test('a marked run goes on until it is known that the one in its place can begin; it is stopped as by a person', async () => {
  const settings = { baseId: base.id, classes: ['a', 'b'], rounds: 5 };
  await using center = openCenter({ a: {}, b: {}, c: {} });
  const { node, store } = center;
  const { id } = await node.startRun(settings);
  const update = { runId: id, round: 0, siteId: 'a', updateSha256: 'd'.repeat(64) };
  const startSha256 = 'e'.repeat(64);
  store.rounds.insert({
    runId: id,
    round: 0,
    stage: 'heating',
    rank: 4,
    trainableParameters: 9,
    startSha256,
  });
  store.roundSites.upsert({ ...update, status: 'received' });
  store.withdrawalNotices.add(update);
  store.sites.setPolicy('a', { ...defaultSitePolicy, maxRounds: 4 });

  await expect(node.restartBeforeWithdrawal(id, 'anna')).rejects.toMatchObject({ code: 'POLICY_REFUSED' });

  expect(store.runs.current()?.id).toBe(id);
  store.sites.setPolicy('a', defaultSitePolicy);
  const again = await node.restartBeforeWithdrawal(id, 'anna');
  expect(store.runs.current()?.id).toBe(again.id);
  expect(store.runs.get(id)?.status).toBe('stopped');
  const acts = store.audit.page().map(({ actor, action, details }) => [actor, action, details['runId']]);
  expect(acts).toContainEqual(['anna', 'run-stop-asked', id]);
});
