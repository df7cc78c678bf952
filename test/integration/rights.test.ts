/** The rights of a person on the command line and over the API of a real agent. */
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { runAgent } from '../../core/agent/run-agent.ts';
import { createAgentClient } from '../../core/api/client.ts';
import { printable } from '../../core/rights/pdf.ts';
import { openStore } from '../../core/store/store.ts';
import { openCommandLine } from '../fixtures/command-line.ts';
import { pdfText } from '../fixtures/pdf-text.ts';
import { addImage, addRun, temporaryFolder } from '../fixtures/store.ts';

/** A command is a process of its own, and loads all of Anneal. */
const timeoutMs = 240_000;
const marked = 'Zoë-4711';

/** A data folder with two subjects, one run, and a consent of each. */
function fill(dir: string): void {
  const store = openStore(path.join(dir, 'anneal.db'));
  addRun(store, 'r1', 2);
  for (const pseudonym of [marked, 'P2']) {
    addImage(store, pseudonym, `of ${pseudonym}`, {
      cropSha256: null,
      status: 'set-aside',
      reason: 'no face',
    });
    const subjectId = store.subjects.byPseudonym(pseudonym)!.id;
    store.consentEvents.append({
      ...{ subjectId, kind: 'grant', purpose: 'federated-training', documentVersion: '1' },
      ...{ validFrom: '2026-01-01T00:00:00.000Z', expiresAt: null, recordedBy: 'test' },
    });
    const [image] = store.images.list({ subjectId });
    store.cohorts.insert({
      ...{ runId: 'r1', round: 1, sha256: 'c'.repeat(64), purpose: 'federated-training' },
      members: [{ imageId: image!.id, subjectId }],
    });
  }
  store.close();
}

describe('anneal', () => {
  test(
    'trace, report and erase tell and do the same as the API, and write the papers',
    async () => {
      await using line = openCommandLine();
      const dataDir = path.join(line.folder, 'site');
      await mkdir(dataDir, { recursive: true });
      fill(dataDir);
      const out = path.join(line.folder, 'out');
      const anneal = (...given: string[]) => line.anneal('site', ...given, '--json');

      const trace = JSON.parse((await anneal('trace', marked)).stdout);
      const report = JSON.parse((await anneal('consent', 'report', marked, '--out', out)).stdout);
      const unsaid = await anneal('consent', 'erase', marked);
      const certificate = path.join(line.folder, 'certificate.pdf');
      const erased = await anneal('consent', 'erase', marked, '--yes', '--certificate', certificate);
      const repeated = await anneal('consent', 'erase', marked, '--yes');
      const paper = pdfText(await readFile(certificate));

      expect(trace.runs).toMatchObject([{ runId: 'r1', rounds: [1], versions: [{ uses: ['trained'] }] }]);
      expect(report).toMatchObject({
        format: 'anneal-subject-report',
        pseudonym: marked,
        images: [{ sourceName: `of ${marked}.png` }],
        consent: { 'federated-training': 'active' },
        runs: trace.runs,
      });
      expect(JSON.parse(await readFile(path.join(out, 'report.json'), 'utf8'))).toEqual(report);
      const text = pdfText(await readFile(path.join(out, 'report.pdf')));
      for (const part of [marked, `of ${marked}.png`, report.subject, 'trained in round 2', 'document 1'])
        expect(text).toContain(part);
      expect(JSON.parse(unsaid.stdout).error.message).toMatch(/Nothing was erased/);
      const erasure = JSON.parse(erased.stdout);
      expect(erasure).toMatchObject({ images: 1, subject: report.subject, doneAt: expect.any(String) });
      for (const part of [marked, erasure.subject, erasure.tombstone.hash, 'trained on images of the person'])
        expect(paper).toContain(part);
      expect(JSON.parse(repeated.stdout)).toEqual(erasure);
    },
    timeoutMs,
  );

  test(
    'an agent that starts goes on with an erasure that was cut short',
    async () => {
      using folder = temporaryFolder();
      fill(folder.dir);
      const store = openStore(path.join(folder.dir, 'anneal.db'));
      const { id: subjectId } = store.subjects.byPseudonym(marked)!;
      store.erasures.ask({ subjectId, subjectRef: store.subjects.refOf(marked), actor: 'anna' });
      store.close();

      const running = await runAgent({ dataFolder: folder.dir, socket: path.join(folder.dir, 's') });
      const client = createAgentClient(running.socket);
      const subjects = await client.site.subjects.query();
      const state = await client.rights.retention.query();
      const { erasure } = await client.rights.certificate.query({ pseudonym: marked });
      await running.close();

      expect(subjects.map(({ pseudonym }) => pseudonym)).toEqual(['P2']);
      expect(state.unfinishedErasures).toBe(0);
      expect(erasure).toMatchObject({ actor: 'anna', images: 1 });
    },
    timeoutMs,
  );

  test(
    'a withdrawal deletes the crops at once, unless the person chose to keep them',
    async () => {
      using folder = temporaryFolder();
      const { dir } = folder;
      fill(dir);
      const running = await runAgent({ dataFolder: dir, socket: path.join(dir, 's') });
      const client = createAgentClient(running.socket);
      const { store, blobs } = running.agent.context;
      const crops: string[] = [];
      for (const pseudonym of [marked, 'P2']) {
        const crop = await blobs.put(Buffer.from(`crop of ${pseudonym}`));
        addImage(store, pseudonym, `second of ${pseudonym}`, { cropSha256: crop });
        crops.push(crop);
      }

      await client.consent.withdraw.mutate({ pseudonym: marked });
      await client.consent.withdraw.mutate({ pseudonym: 'P2', keepImages: true });
      await running.agent.context.rights.look();
      const after = crops.map((crop) => blobs.has(crop));
      await client.rights.keepImages.mutate({ pseudonym: 'P2', keep: false });
      const later = crops.map((crop) => blobs.has(crop));
      await running.close();

      expect(after).toEqual([false, true]);
      expect(later).toEqual([false, false]);
    },
    timeoutMs,
  );
});

test('letters that the font lacks are given by their numbers', () => {
  expect(printable('Zoë 日本 Ξ „x“')).toBe('Zoë <U+65E5><U+672C> <U+039E> „x“');
});
