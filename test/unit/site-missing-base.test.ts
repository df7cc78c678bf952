import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { openIdleSite } from '../fixtures/idle-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

const model = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));

test('a site that is asked for approval hears at once that it lacks the base model, and when it has it', async () => {
  using folder = temporaryFolder();
  using opened = openTestStore();
  const elsewhere = createCatalogue(join(folder.dir, 'elsewhere'));
  const { sha256 } = await elsewhere.import(model, { id: 'dino' });
  const catalogue = createCatalogue(join(folder.dir, 'models'));
  await using idle = openIdleSite(opened.store, { catalogue });
  const { site } = idle;
  const config = defaultRunConfig({ baseId: 'dino', baseSha256: sha256, classes: ['a', 'b'], quorum: 3 });

  site.receiveManifest(
    manifestOf(config, await elsewhere.load('dino'), 0, {
      sha256: '1'.repeat(64),
      sizeBytes: 1,
      chunkBytes: 1024,
    }),
  );

  await vi.waitFor(() => expect(site.problem?.code).toBe('MODEL_UNKNOWN'));
  expect(site.activity).toBe('approval-needed');
  expect(site.problem?.action).toContain(sha256);
  await catalogue.import(model, { id: 'dino' });
  await vi.waitFor(() => expect(site.problem).toBeNull(), { timeout: 15_000 });
});
