/** A bit that flips in a file of a site: nothing is computed with it, and the round ends as it would have without. */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { startTrainer } from '../../core/engine/trainer.ts';
import type { Trainer } from '../../core/engine/trainer-protocol.ts';
import { damagedCropReason } from '../../core/site/damaged-files.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import { flipBit } from '../fixtures/flip-bit.ts';
import { announcement, firstManifest, timeoutMs, trainingImages } from '../fixtures/interrupted-site.ts';
import { type LoneSite, type LoneSiteOptions, offer, openLoneSite } from '../fixtures/lone-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

type Jobs = Pick<Trainer, 'train' | 'evaluate'>;

/** A real trainer process, and somebody who damages something once, right before or after a job. */
function disturbed(dir: string, disturb: (real: Jobs) => Partial<Jobs>): Trainer {
  const real = startTrainer({ modelsFolder: path.join(dir, 'models') });
  const methods = {
    train: real.train.bind(real),
    evaluate: real.evaluate.bind(real),
    prototypes: real.prototypes.bind(real),
    measure: real.measure.bind(real),
    close: real.close.bind(real),
  };
  return { ...methods, ...disturb(methods) };
}

const once = () => {
  let isFirst = true;
  return (work: () => void) => {
    if (isFirst) work();
    isFirst = false;
  };
};

async function roundOf(
  dir: string,
  options: LoneSiteOptions,
  manifestFor: (site: LoneSite, dir: string) => Promise<ManifestBody> = firstManifest,
) {
  const site = await openLoneSite(dir, options);
  const problems = new Set<string>();
  const watch = setInterval(() => {
    if (site.node.problem !== null) problems.add(site.node.problem.message);
  }, 20);
  site.node.receiveManifest(await manifestFor(site, dir));
  return {
    site,
    problems,
    async [Symbol.asyncDispose]() {
      clearInterval(watch);
      await site[Symbol.asyncDispose]();
    },
  };
}

async function undisturbedUpdate(manifestFor = firstManifest): Promise<string> {
  using folder = temporaryFolder();
  await using round = await roundOf(folder.dir, {}, manifestFor);
  return (await announcement(round.site)).updateSha256!;
}

/** Half numbers travel, so that the state must be composed in the work folder. */
async function composedManifest({ catalogue }: LoneSite, dir: string): Promise<ManifestBody> {
  const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
  const base = await catalogue.load('dino');
  const config = defaultRunConfig({
    baseId: 'dino',
    baseSha256: base.sha256,
    classes: shapeClasses,
    rounds: 1,
    rMax: 2,
    smallCell: 1,
    wire: { up: 'fp16', down: 'fp16', errorFeedback: false },
    training: { ...training, epochs: 2, batchSize: 4 },
  });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const initial = createRunState(config, base);
  return manifestOf(config, base, 0, await offer(dir, encodeGlobalState(initial, { config, plan, base })));
}

describe('a bit that flips', () => {
  test.each(['train', 'evaluate'] as const)(
    'in the fetched state before it is used (%s): it is fetched again, and the update has the same bytes',
    async (kind) => {
      using folder = temporaryFolder();
      const damage = once();
      const trainer = disturbed(folder.dir, (real) => ({
        [kind]: (...[job, options]: Parameters<Jobs['train']>) => {
          damage(() => flipBit(job.stateFile));
          return (real[kind] as Jobs['train'])(job, options);
        },
      }));
      await using round = await roundOf(folder.dir, { trainer });

      expect((await announcement(round.site)).updateSha256).toBe(await undisturbedUpdate());
      expect([...round.problems].join()).toMatch(/damaged on this disk/);
    },
    timeoutMs,
  );

  test(
    'in the state that was composed in the work folder: it is composed anew',
    async () => {
      using folder = temporaryFolder();
      const damage = once();
      let composed = '';
      const trainer = disturbed(folder.dir, (real) => ({
        train(job, options) {
          composed = job.stateFile;
          damage(() => flipBit(job.stateFile));
          return real.train(job, options);
        },
      }));
      await using round = await roundOf(folder.dir, { trainer }, composedManifest);

      const { updateSha256 } = await announcement(round.site);

      expect(composed).toContain(path.join(folder.dir, 'work'));
      expect(updateSha256).toBe(await undisturbedUpdate(composedManifest));
    },
    timeoutMs,
  );

  test(
    'in what the trainer wrote: the round is trained again, with the same bytes',
    async () => {
      using folder = temporaryFolder();
      const damage = once();
      const trainer = disturbed(folder.dir, (real) => ({
        async train(job, options) {
          const result = await real.train(job, options);
          damage(() => flipBit(job.outFile));
          return result;
        },
      }));
      await using round = await roundOf(folder.dir, { trainer });

      expect((await announcement(round.site)).updateSha256).toBe(await undisturbedUpdate());
    },
    timeoutMs,
  );

  test.each<[string, (file: string) => void]>([
    ['a bit flips', flipBit],
    ['that is missing', (file) => rmSync(file)],
  ])(
    'a training crop in which %s is set aside where it shows, and the round goes on without it',
    async (_what, damageCrop) => {
      using folder = temporaryFolder();
      const damage = once();
      let file = '';
      const trainer = disturbed(folder.dir, (real) => ({
        train(job, options) {
          damage(() => {
            file = job.examples[0]!.file;
            damageCrop(file);
          });
          return real.train(job, options);
        },
      }));
      await using round = await roundOf(folder.dir, { trainer });
      const { store } = round.site;
      const crops = store.images.list({ split: 'train' });

      const row = await announcement(round.site);

      expect(row.examples).toBe(trainingImages - 1);
      const image = crops.find(({ cropSha256 }) => file.endsWith(cropSha256!))!;
      expect(store.images.get(image.id)).toMatchObject({
        status: 'set-aside',
        reason: damagedCropReason,
        asideKind: 'damaged',
        cropSha256: null,
      });
      expect(store.audit.newestOf('crops.damaged')?.details).toEqual({
        subject: store.subjects.refOf(image.pseudonym),
        images: 1,
      });
      expect([...round.problems].join()).toMatch(/1 photograph was damaged/);
      expect(store.images.list({ status: 'set-aside' })).toHaveLength(1);
    },
    timeoutMs,
  );

  test(
    'in a held-out crop: its counts are taken without it',
    async () => {
      using folder = temporaryFolder();
      const damage = once();
      const trainer = disturbed(folder.dir, (real) => ({
        evaluate(job, options) {
          damage(() => flipBit(job.examples[0]!.file));
          return real.evaluate(job, options);
        },
      }));
      await using round = await roundOf(folder.dir, { trainer });
      await announcement(round.site);
      const { store } = round.site;

      const heldOut = store.images.list({ split: 'test' });

      expect(heldOut.filter(({ asideKind }) => asideKind === 'damaged')).toHaveLength(1);
      expect(store.evaluations.ofRun('run')[0]?.total).toBe(heldOut.length - 1);
    },
    timeoutMs,
  );

  test(
    'in an update that was announced: it is made again, with the same bytes',
    async () => {
      using folder = temporaryFolder();
      await using round = await roundOf(folder.dir, {});
      const { store, blobs, node, sent } = round.site;
      const { updateSha256 } = await announcement(round.site);
      flipBit(blobs.path(updateSha256!));
      // As the server of chunks does before it serves.
      expect(await blobs.verify(updateSha256!)).toBe(false);

      node.updateDamaged(updateSha256!);

      const announced = () => sent.filter(({ type }) => type === 'announce');
      await vi.waitFor(() => expect(announced()).toHaveLength(2), { timeout: timeoutMs, interval: 50 });
      expect(store.roundSites.get('run', 0, 'site')?.updateSha256).toBe(updateSha256);
      expect(await blobs.verify(updateSha256!)).toBe(true);
      expect(store.audit.newestOf('round-restarted')?.details).toMatchObject({
        reason: 'the file of the update was damaged on this disk',
      });
    },
    timeoutMs,
  );

  test(
    'in the local parameters: the site does not go on as if there were none, and says what helps',
    async () => {
      using folder = temporaryFolder();
      await using round = await roundOf(folder.dir, {}, keepingManifest(0));
      const { store, blobs, node } = round.site;
      await announcement(round.site);
      const memory = store.siteMemory.newestBefore('run', 1)!;
      flipBit(blobs.path(memory.sha256));

      node.receiveManifest(await keepingManifest(1)(round.site, folder.dir));

      await expect.poll(() => node.problem?.code, { timeout: timeoutMs, interval: 50 }).toBe('FILE_DAMAGED');
      expect(node.problem?.message).toMatch(/local parameters/);
      expect(round.site.sent.at(-1)).toMatchObject({ type: 'declined', body: { round: 1 } });
      expect(store.roundSites.get('run', 1, 'site')?.status ?? 'working').toBe('working');
    },
    timeoutMs,
  );
});

/** Factors B and the head stay at the site. */
const keepingManifest =
  (round: number) =>
  async ({ catalogue }: LoneSite, dir: string): Promise<ManifestBody> => {
    const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
    const base = await catalogue.load('dino');
    const config = defaultRunConfig({
      baseId: 'dino',
      baseSha256: base.sha256,
      classes: shapeClasses,
      strategy: 'fedsa-lora',
      localHead: true,
      rounds: 2,
      rMax: 2,
      smallCell: 1,
      training: { ...training, epochs: 1, batchSize: 4 },
    });
    const plan = getStrategy(config.strategy).configureTrain(config, round);
    const initial = createRunState(config, base);
    const state = await offer(dir, encodeGlobalState(initial, { config, plan, base }));
    return manifestOf(config, base, round, state);
  };
