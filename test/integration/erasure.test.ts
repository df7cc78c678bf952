/** After an erasure the data folder holds no byte of the subject, however it was interrupted, and nothing else is missing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, test, vi } from 'vitest';
import { correctionQuestionSchema } from '../../core/config/correction.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { recordConsent } from '../../core/consent/consent.ts';
import { correctImages } from '../../core/data/corrections.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore } from '../../core/store/store.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type { ManifestBody } from '../../core/transport/messages.ts';
import {
  eraserOf,
  found,
  importMarked,
  leaveFreePages,
  leaveTraces,
  makeFolders,
  marked,
} from '../fixtures/erasable.ts';
import { type LoneSite, offer, openLoneSite } from '../fixtures/lone-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { addImage, temporaryFolder } from '../fixtures/store.ts';

const child = fileURLToPath(new URL('../fixtures/erase-child.ts', import.meta.url));
const timeoutMs = 60_000;
/** Training images of the site: three each of P0 to P3, and five of the marked subject. */
const others = 12;
const own = 5;

async function manifestFor({ catalogue }: LoneSite, dir: string, epochs = 2): Promise<ManifestBody> {
  const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
  const base = await catalogue.load('dino');
  const config = defaultRunConfig({
    ...{ baseId: 'dino', baseSha256: base.sha256, classes: shapeClasses, rounds: 2, rMax: 2 },
    // Factors B, the head and what rounding took stay at the site.
    ...{ strategy: 'fedsa-lora', localHead: true },
    wire: { up: 'int8', down: 'fp16', errorFeedback: true },
    smallCell: 1,
    training: { ...training, epochs, batchSize: 4 },
  });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const initial = createRunState(config, base);
  return manifestOf(config, base, 0, await offer(dir, encodeGlobalState(initial, { config, plan, base })));
}

const announcement = ({ store }: LoneSite, examples: number) =>
  vi.waitFor(
    () => {
      const row = store.roundSites.get('run', 0, 'site');
      expect(row).toMatchObject({ status: 'announced', examples });
      return row!;
    },
    { timeout: timeoutMs, interval: 50 },
  );

/** Every image of the others with its crop. */
async function expectOthersUnharmed(store: ReturnType<typeof openStore>, dir: string): Promise<void> {
  const blobs = createBlobStore(path.join(dir, 'blobs'));
  const images = store.images.list();
  expect(images).toHaveLength(18);
  for (const { cropSha256 } of images) await blobs.read(cropSha256!);
  expect(store.consentEvents.all()).toHaveLength(6);
  expect(store.audit.verify()).toMatchObject({ intact: true, brokenAtSeq: null });
}

test(
  'of a subject that a round was trained on, nothing is left in the whole data folder',
  async () => {
    using folder = temporaryFolder();
    const { dir } = folder;
    await makeFolders(dir);
    await using site = await openLoneSite(dir);
    const { store, blobs } = site;
    const needles = await importMarked(dir, store, blobs);
    site.node.receiveManifest(await manifestFor(site, dir));
    const row = await announcement(site, others + own);
    site.node.receiveReceipt({ runId: 'run', round: 0, updateSha256: row.updateSha256!, accepted: true });
    const [memory] = store.siteMemory.list();
    await leaveTraces(dir, store, blobs);
    store.subjects.upsert({ pseudonym: 'another' });
    const before = found(dir, needles);

    const erased = await eraserOf(dir, store, blobs, site.node).erase(marked, 'anna');

    // The search finds what is there.
    for (const what of ['pseudonym as utf8', 'file name as utf8', 'label as utf8', 'hash of crop', 'crop'])
      expect(
        before.some((place) => place.includes(what)),
        what,
      ).toBe(true);
    for (const place of ['anneal.db', 'logs', 'work', 'damaged', 'partial'])
      expect(
        before.some((found) => found.includes(place)),
        place,
      ).toBe(true);
    expect(found(dir, needles)).toEqual([]);
    await expectOthersUnharmed(store, dir);
    // What was made of the subject here; the global state that it started from is everybody's.
    expect(blobs.has(row.updateSha256!)).toBe(false);
    expect(blobs.has(memory!.sha256)).toBe(false);
    expect(store.siteMemory.list()).toEqual([]);
    expect(erased).toMatchObject({
      subject: store.subjects.refOf(marked),
      images: 6,
      actor: 'anna',
      rows: { images: 6, consent_events: 2, cohort_members: own, subjects: 1, site_memory: 1, adapters: 1 },
      runs: [{ runId: 'run', rounds: [0], versions: [{ round: 0, sha256: null, uses: ['trained'] }] }],
    });
    expect(erased.redacted).toBeGreaterThanOrEqual(2);
    // Logs keep their other lines.
    expect(readFileSync(path.join(dir, 'logs', 'agent.log'), 'utf8')).toContain('{"msg":"kept"}');
  },
  timeoutMs,
);

test(
  'a round that trains on the subject stops first, and goes on without it',
  async () => {
    using folder = temporaryFolder();
    const { dir } = folder;
    await makeFolders(dir);
    let onStep = () => {};
    await using site = await openLoneSite(dir, { onProgress: () => onStep() });
    const { store, blobs } = site;
    const needles = await importMarked(dir, store, blobs);
    const stepped = new Promise<void>((resolve) => {
      onStep = resolve;
    });
    site.node.receiveManifest(await manifestFor(site, dir, 30));
    await stepped;

    await eraserOf(dir, store, blobs, site.node).erase(marked, 'anna');
    const left = found(dir, needles);
    await announcement(site, others);

    expect(left).toEqual([]);
    expect(found(dir, needles)).toEqual([]);
    expect(site.sent.filter(({ type }) => type === 'announce')).toHaveLength(1);
    await expectOthersUnharmed(store, dir);
  },
  timeoutMs,
);

test(
  'an update that is announced and not received yet is taken back, also when the process died in between',
  async () => {
    using folder = temporaryFolder();
    const { dir } = folder;
    await makeFolders(dir);
    const retracted: string[] = [];
    let manifest: ManifestBody;
    {
      await using site = await openLoneSite(dir);
      await importMarked(dir, site.store, site.blobs);
      manifest = await manifestFor(site, dir);
      site.node.receiveManifest(manifest);
      await announcement(site, others + own);
    }
    {
      // No site runs: as at the start, before the role.
      const store = openStore(path.join(dir, 'anneal.db'));
      await eraserOf(dir, store, createBlobStore(path.join(dir, 'blobs'))).erase(marked, 'anna');
      store.close();
    }
    await using again = await openLoneSite(dir, {
      ports: { retractAnnouncement: (runId) => void retracted.push(runId) },
    });
    again.node.receiveManifest(manifest);
    await announcement(again, others);

    expect(retracted).toEqual(['run']);
    await expectOthersUnharmed(again.store, dir);
  },
  timeoutMs,
);

describe('killed at any point, an erasure is brought to its end by the next start', () => {
  test.each(['asked', 'deleting', 'files', 'half', 'leftovers', 'vacuum'])(
    '%s',
    async (point) => {
      using folder = temporaryFolder();
      const { dir } = folder;
      await makeFolders(dir);
      let needles: Map<string, Buffer>;
      {
        await using site = await openLoneSite(dir);
        needles = await importMarked(dir, site.store, site.blobs);
        await leaveTraces(dir, site.store, site.blobs);
      }
      leaveFreePages(dir);
      const killed = spawn(process.execPath, [child, dir, point], { stdio: ['ignore', 'pipe', 'inherit'] });
      const gone = once(killed, 'exit');
      for await (const line of createInterface(killed.stdout!)) {
        expect(line).toBe(point);
        break;
      }
      killed.kill('SIGKILL');
      await gone;
      const store = openStore(path.join(dir, 'anneal.db'));
      const blobs = createBlobStore(path.join(dir, 'blobs'));
      const before = found(dir, needles);
      const eraser = eraserOf(dir, store, blobs);

      await eraser.resume();

      expect(before.length).toBeGreaterThan(0);
      expect(found(dir, needles)).toEqual([]);
      expect(store.erasures.unfinished()).toEqual([]);
      expect(eraser.find(marked)).toMatchObject({ images: 6, doneAt: expect.any(String) });
      await expectOthersUnharmed(store, dir);
      // Asked again, the answer is the same.
      expect(await eraser.erase(marked, 'anna')).toEqual(eraser.find(marked));
      store.close();
    },
    timeoutMs,
  );
});

test('a crop that somebody else has, too, stays', async () => {
  using folder = temporaryFolder();
  const { dir } = folder;
  await makeFolders(dir);
  const store = openStore(path.join(dir, 'anneal.db'));
  const blobs = createBlobStore(path.join(dir, 'blobs'));
  const shared = await blobs.put(Buffer.from('the same picture'));
  addImage(store, 'P1', 'one', { cropSha256: shared });
  addImage(store, 'P2', 'two', { cropSha256: shared });

  await eraserOf(dir, store, blobs).erase('P1', 'anna');
  const stays = blobs.has(shared);
  await eraserOf(dir, store, blobs).erase('P2', 'anna');

  expect([stays, existsSync(path.join(dir, 'blobs', shared.slice(0, 2), shared))]).toEqual([true, false]);
  store.close();
});

test('the pseudonym goes from names of files and notes of others, too, and theirs stay', async () => {
  using folder = temporaryFolder();
  const { dir } = folder;
  await makeFolders(dir);
  const store = openStore(path.join(dir, 'anneal.db'));
  for (const name of ['Zoë-902/left', 'zoë-902_right', 'Zoë-9021/left']) addImage(store, 'Zoë-902', name);
  addImage(store, 'P2', 'P2/own');
  addImage(store, 'P3', 'P3/own');
  const correct = (pseudonym: string, subject: string, note: string) =>
    correctImages(
      store,
      { pseudonym, subject, reason: 'wrong-person', note, confirmed: correctionQuestionSchema.options },
      { actor: 'anna', classes: null, purpose: 'federated-training' },
    );
  correct('Zoë-902', 'P2', 'were in the wrong folder');
  correct('P3', 'P2', 'taken for Zoë-902 at first, as Zoë-9021');

  await eraserOf(dir, store, createBlobStore(path.join(dir, 'blobs'))).erase('Zoë-902', 'anna');

  const names = store.images.list().map(({ sourceName }) => sourceName);
  expect(names.sort()).toEqual([
    ...['P2/own.png', 'P3/own.png', 'Zoë-9021/left.png', '[erased]/left.png', '[erased]_right.png'],
  ]);
  const { id } = store.subjects.byPseudonym('P3')!;
  expect(store.imageCorrections.ofSubject(id)).toMatchObject([
    { note: 'taken for [erased] at first, as Zoë-9021' },
  ]);
  expect(store.audit.verify()).toMatchObject({ intact: true });
  store.close();
});

test('an erased pseudonym does not come back by itself, and does when a person says so', async () => {
  using folder = temporaryFolder();
  const { dir } = folder;
  await makeFolders(dir);
  const store = openStore(path.join(dir, 'anneal.db'));
  addImage(store, 'P1', 'one');
  const eraser = eraserOf(dir, store, createBlobStore(path.join(dir, 'blobs')));
  await eraser.erase('P1', 'anna');
  const grant = { purpose: 'federated-training', documentVersion: '1', recordedBy: 'anna' };
  const agree = () => recordConsent(store, { pseudonym: 'P1', validFrom: '2026-01-01', ...grant });

  expect(agree).toThrow(expect.objectContaining({ code: 'SUBJECT_ERASED' }));
  expect(store.subjects.byPseudonym('P1')).toBeNull();
  expect(store.erasures.readmit(store.subjects.refOf('P1'))).toBe(true);
  agree();
  expect(store.subjects.byPseudonym('P1')).not.toBeNull();
  store.close();
});
