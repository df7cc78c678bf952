/**
 * A real site over its real store, files and imports; only the training itself is not real: it ends when the test says so. Whatever
 * happens to consents, clocks and the process, nothing is announced that a simple model does not allow.
 */
import { copyFile, cp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { defaultRunConfig, type RunConfig } from '../../core/config/run-config.ts';
import { confirmClock } from '../../core/consent/site-clock.ts';
import { setTimeZone } from '../../core/consent/site-zone.ts';
import { importFolder } from '../../core/data/import-folder.ts';
import { cancelled, type Trainer } from '../../core/engine/trainer-protocol.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type { BlobReference } from '../../core/transport/messages.ts';
import {
  type ConsentAct,
  consentAct,
  csvOf,
  people,
  perform,
  purposes,
  rowsOf,
} from '../fixtures/consent-events.ts';
import { createConsentModel, type ListRow } from '../fixtures/consent-model.ts';
import { type LoneSite, offer, openLoneSite } from '../fixtures/lone-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const start = '2026-10-20T09:30:00.000Z';
const [trained] = purposes;

/** Trains nothing: gives back the state that it got, when it is told to. */
function createIdleTrainer(): Trainer & { finish(): void; isBusy(): boolean } {
  let release: (() => void) | null = null;
  return {
    isBusy: () => release !== null,
    finish: () => release?.(),
    async train(job, options) {
      await new Promise<void>((resolve, reject) => {
        if (options?.signal?.aborted === true) return reject(cancelled());
        release = resolve;
        options?.signal?.addEventListener('abort', () => reject(cancelled()), { once: true });
      }).finally(() => (release = null));
      await copyFile(job.stateFile, job.outFile);
      const examples = job.examples.length;
      return { meanLoss: 1, steps: 1, examples, imagesPerSecond: 1, wallMs: 1, events: [] };
    },
    evaluate: async () => Promise.reject(new Error('nothing is held out for evaluation')),
    prototypes: async () => Promise.reject(new Error('not asked for')),
    measure: async () => Promise.reject(new Error('not measured')),
    close: async () => {},
  };
}

type Act = ConsentAct | { act: 'finish' } | { act: 'received' };
const act: fc.Arbitrary<Act> = fc.oneof(
  { arbitrary: consentAct, weight: 5 },
  { arbitrary: fc.record({ act: fc.constant('finish' as const) }), weight: 4 },
  { arbitrary: fc.record({ act: fc.constant('received' as const) }), weight: 1 },
);

/** One folder with network, images and consents, copied for each course. */
async function prepare(dir: string) {
  await using site = await openLoneSite(dir, { now: () => new Date(start), trainer: createIdleTrainer() });
  setTimeZone(site.store, 'UTC', 'test');
  // The trainer of this test evaluates nothing.
  setPolicy(site.store, { ...openPolicy, evaluations: 'none' }, 'test');
  const base = await site.catalogue.load('dino');
  const config = defaultRunConfig({
    ...{ baseId: 'dino', baseSha256: base.sha256, classes: shapeClasses, rounds: 50, rMax: 2 },
    ...{ smallCell: 1, strategy: 'fedavg-lora' },
  });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const state = await offer(dir, encodeGlobalState(createRunState(config, base), { config, plan, base }));
  return { base, config, state };
}

interface Prepared {
  base: BaseModel;
  config: RunConfig;
  state: BlobReference;
}

async function createWorld(dir: string, { base, config, state }: Prepared) {
  const clock = { now: new Date(start) };
  const model = createConsentModel(clock.now, 'UTC');
  for (const subject of people) model.grant(subject, trained, '2026-01-01', null);
  const trainer = createIdleTrainer();
  const breaches: string[] = [];
  let announced = 0;
  let round = 0;
  let last: ListRow[] = [];
  let site: LoneSite;
  async function open(): Promise<void> {
    site = await openLoneSite(dir, {
      ...{ trainer, now: () => clock.now, clockEveryMs: 5 },
      ports: {
        // Within the transaction that announces.
        enqueue: ({ type }) => {
          if (type === 'announce') checkAnnounced('was announced');
          if (type === 'announce') announced += 1;
        },
      },
    });
    ask();
  }
  const ask = () => site.node.receiveManifest(manifestOf(config, base, round, state));
  const row = () => site.store.roundSites.get('run', round, 'site');

  function checkAnnounced(what: string): void {
    const { store } = site;
    const { cohortSha256 } = row()!;
    const cohort = store.cohorts
      .byRun('run')
      .findLast((one) => one.round === round && one.sha256 === cohortSha256)!;
    const subjects = new Set(store.cohorts.members(cohort.id).map(({ subjectId }) => subjectId));
    for (const subject of people)
      if (subjects.has(store.subjects.byPseudonym(subject)!.id) && !model.allows(subject, trained))
        breaches.push(`${subject} ${what}`);
    if (what === 'was announced' && model.isClockWrong) breaches.push('announced while the clock was wrong');
  }

  /** Rows of a list with one image for each subject and purpose. */
  async function readList(): Promise<void> {
    if (last.length === 0) return;
    const { store, blobs } = site;
    const images = path.join(dir, 'images');
    const name = ({ subject, purpose }: ListRow) =>
      `3-0-${people.indexOf(subject as (typeof people)[number]) * 2 + purposes.indexOf(purpose)}.png`;
    const labelsFile = path.join(dir, 'list.csv');
    await writeFile(labelsFile, csvOf(last, last.map(name), shapeClasses[0]!));
    await importFolder({
      ...{ store, blobs, imagesFolder: images, labelsFile, dataset: 'imported' },
      ...{ alreadyCropped: true, recordedBy: 'import' },
    });
    for (const one of last) model.read(one);
  }

  async function take(step: Act): Promise<void> {
    if (step.act === 'list') last = rowsOf(step, model);
    if (step.act === 'list' || step.act === 'list-again') await readList();
    else if (step.act === 'restart') {
      await site[Symbol.asyncDispose]();
      await open();
    } else if (step.act === 'finish') trainer.finish();
    else if (step.act === 'received') {
      const { status, updateSha256 } = row() ?? {};
      if (status !== 'announced') return;
      site.node.receiveReceipt({ runId: 'run', round, updateSha256: updateSha256!, accepted: true });
      round += 1;
      ask();
    } else perform(site.store, clock, model, step);
    // The site looks at its clock, and goes as far as it can.
    await sleep(25);
    if (row()?.status === 'announced') checkAnnounced('stayed announced');
  }

  await open();
  return {
    breaches,
    take,
    announced: () => announced,
    /** It is not lost, whatever happened: when the clock is right a round comes to its end. */
    async end(): Promise<void> {
      confirmClock(site.store, 'admin');
      model.confirmClock();
      site.node.decided();
      await vi.waitFor(
        () => {
          trainer.finish();
          expect(row()?.status).toBe('announced');
        },
        { timeout: 20_000, interval: 10 },
      );
      expect(site.store.audit.verify()).toMatchObject({ intact: true });
    },
    close: () => site[Symbol.asyncDispose](),
  };
}

test('nothing is announced of somebody whose consent is not active, over any course of events', async () => {
  using folder = temporaryFolder();
  const prepared = await prepare(path.join(folder.dir, 'first'));
  let count = 0;
  let announced = 0;
  const run = async (course: readonly Act[]) => {
    const dir = path.join(folder.dir, String(count++));
    await cp(path.join(folder.dir, 'first'), dir, { recursive: true });
    const world = await createWorld(dir, prepared);
    try {
      for (const step of course) await world.take(step);
      await world.end();
      expect(world.breaches).toEqual([]);
      announced += world.announced();
    } finally {
      await world.close();
    }
  };
  await fc.assert(fc.asyncProperty(fc.array(act, { minLength: 4, maxLength: 16 }), run), {
    numRuns: Number(process.env['ANNEAL_CONSENT_SITE_RUNS'] ?? 25),
    endOnFailure: true,
  });

  expect(announced).toBeGreaterThan(count);
}, 600_000);

test('a clock that runs back stops the site with a sentence, and training goes on when it is right', async () => {
  using folder = temporaryFolder();
  const { base, config, state } = await prepare(folder.dir);
  const clock = { now: new Date(start) };
  const trainer = createIdleTrainer();
  await using site = await openLoneSite(folder.dir, { trainer, now: () => clock.now, clockEveryMs: 5 });
  site.node.receiveManifest(manifestOf(config, base, 0, state));
  await vi.waitFor(() => expect(trainer.isBusy()).toBe(true), { timeout: 20_000 });

  clock.now = new Date('2026-10-15T09:30:00.000Z');
  await vi.waitFor(() => expect(site.node.problem?.code).toBe('CLOCK_RAN_BACK'));
  expect(trainer.isBusy()).toBe(false);
  expect(site.node.activity).toBe('refused');
  const declined = site.sent.filter(({ type }) => type === 'declined').at(-1);
  expect(declined?.body).toMatchObject({
    reason: expect.stringContaining('The clock of this machine shows'),
  });

  clock.now = new Date('2026-10-20T09:31:00.000Z');
  await vi.waitFor(() => expect(trainer.isBusy()).toBe(true));
  expect(site.node.problem).toBeNull();
  trainer.finish();
  await vi.waitFor(() => expect(site.store.roundSites.get('run', 0, 'site')?.status).toBe('announced'));
}, 60_000);
