/** What a site sends in the round of class means, and that it sends it once. */
import { expect, test, vi } from 'vitest';
import { withdrawConsent } from '../../core/consent/consent.ts';
import { parseSafetensors } from '../../core/lora/safetensors.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { decodeUpdate } from '../../core/strategy/wire/wire.ts';
import { announcement, firstManifest, trainingImages } from '../fixtures/interrupted-site.ts';
import { type LoneSite, openLoneSite } from '../fixtures/lone-site.ts';
import { temporaryFolder } from '../fixtures/store.ts';

// Each looks all its images up first; many tests may run beside this one.
const timeoutMs = 150_000;

// Circles are of P0 and P3, squares of P1, triangles of P2; three images each.
const classMeans = { headStart: 'prototypes', rounds: 2, smallCell: 2, gallery: 'ends' } as const;

async function sentRows({ store, blobs, catalogue }: LoneSite, config: Parameters<typeof createRunState>[0]) {
  const base = await catalogue.load('dino');
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const start = createRunState(config, base);
  const bytes = await blobs.read(store.roundSites.get('run', 0, 'site')!.updateSha256!);
  const names = [...parseSafetensors(bytes, 'update').entries.keys()];
  const { head } = decodeUpdate(bytes, 'update', { config, plan, base, start });
  const { dims, data } = head.get('weight')!;
  const size = dims[1]!;
  const lengths = Array.from({ length: dims[0]! }, (_, label) =>
    Math.hypot(...data.subarray(label * size, (label + 1) * size)),
  );
  return { names: names.sort(), lengths, bias: head.get('bias')! };
}

test(
  'holds sums of the classes with enough subjects, divided by the images that are said, and nothing else',
  async () => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    const manifest = await firstManifest(site, folder.dir, classMeans);

    site.node.receiveManifest(manifest);
    const row = await announcement(site, timeoutMs);

    const { names, lengths, bias } = await sentRows(site, manifest.config);
    expect(names).toEqual(['head.bias', 'head.weight']);
    // Two subjects, of whom each counts 1 at most.
    expect(lengths[0]).toBeGreaterThan(1 / trainingImages);
    expect(lengths[0]).toBeLessThanOrEqual(2 / trainingImages + 1e-6);
    expect(lengths.slice(1)).toEqual([0, 0]);
    expect(bias.data.every((value) => value === 0)).toBe(true);
    expect([row.examples, row.meanLoss]).toEqual([trainingImages, null]);
    const said = site.sent.find(({ type }) => type === 'announce')!;
    expect(said.body).toMatchObject({ examples: trainingImages, meanLoss: null });
  },
  timeoutMs,
);

test(
  'does not leave a second time when somebody withdraws: the difference would be that person',
  async () => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    site.node.receiveManifest(await firstManifest(site, folder.dir, classMeans));
    await announcement(site, timeoutMs);

    withdrawConsent(site.store, { pseudonym: 'P0', recordedBy: 'test' });

    await vi.waitFor(() => expect(site.store.roundSites.get('run', 0, 'site')?.status).toBe('rejected'), {
      timeout: timeoutMs,
      interval: 50,
    });
    await vi.waitFor(() => expect(site.node.activity).toBe('waiting'), { timeout: timeoutMs, interval: 50 });
    const sent = site.sent.map(({ type }) => type);
    expect(sent.filter((type) => type === 'announce' || type === 'declined')).toEqual([
      'announce',
      'declined',
    ]);
    expect(site.store.adapters.list({ kind: 'update' })).toEqual([]);
  },
  timeoutMs,
);

test(
  'looks held-out images up among the training images, and names everybody whose images were used',
  async () => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    site.node.receiveManifest(await firstManifest(site, folder.dir, { ...classMeans, smallCell: 1 }));
    await announcement(site, timeoutMs);

    const { body } = site.sent.find(({ type }) => type === 'evaluation')!;
    const { counts } = body as { counts: { total: number; gallery: { rank1: number } } };
    expect(counts.total).toBe(6);
    expect(counts.gallery.rank1).toBeGreaterThanOrEqual(0);
    const [cohort] = site.store.evaluationCohorts.ofRun('run');
    expect(cohort!.size).toBe(18);
  },
  timeoutMs,
);
