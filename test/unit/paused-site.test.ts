import { expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { openIdleSite } from '../fixtures/idle-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { openTestStore } from '../fixtures/store.ts';

test.each([
  ['announced', []],
  ['working', ['declined']],
  ['absent', ['declined']],
] as const)('an update that is %s: %j', async (status, said) => {
  using opened = openTestStore();
  const { store } = opened;
  await using idle = openIdleSite(store);
  const { site, sent } = idle;
  const names = { baseId: 'face-resnet-128', baseSha256: '0'.repeat(64), classes: ['a', 'b'] };
  const state = { sha256: '1'.repeat(64), sizeBytes: 1, chunkBytes: 1024 };
  site.receiveManifest(manifestOf(defaultRunConfig(names), null, 0, state));
  const { runId, round } = site.manifest!;
  store.roundSites.upsert({ runId, round, siteId: 'site', status });
  sent.length = 0;

  site.pause();

  expect(sent.map(({ type }) => type)).toEqual(said);
});
