import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { addDocument, maxDocumentBytes, removeDocument } from '../../core/data/consent-documents.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { sweepBlobs } from '../../core/store/retention.ts';
import { openTestStore, temporaryFolder } from '../fixtures/store.ts';

/** P1 with a consent (event 1) and a withdrawal (event 2); P2 with a consent (event 3); P3 with nothing. */
function openWorld() {
  const opened = openTestStore();
  const folder = temporaryFolder();
  const { store } = opened;
  const blobs = createBlobStore(path.join(folder.dir, 'blobs'));
  const grant = (pseudonym: string) =>
    recordConsent(store, {
      ...{ pseudonym, purpose: 'federated-training', documentVersion: '1', validFrom: '2026-01-01' },
      recordedBy: 'desk',
    });
  grant('P1');
  withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk' });
  grant('P2');
  store.subjects.upsert({ pseudonym: 'P3' });
  const file = (name: string, bytes: Uint8Array | string) => {
    const place = path.join(folder.dir, name);
    writeFileSync(place, bytes);
    return place;
  };
  return {
    ...{ store, blobs, file, dir: folder.dir },
    add: (pseudonym: string, scan: string, eventId?: number) =>
      addDocument({ store, blobs, actor: 'anna' }, { pseudonym, file: scan, eventId }),
    remove: (id: number) => removeDocument({ store, blobs, actor: 'anna' }, id),
    [Symbol.dispose]() {
      opened[Symbol.dispose]();
      folder[Symbol.dispose]();
    },
  };
}

const pdf = '%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\nstartxref\n9\n%%EOF\n';
const picture = (format: 'png' | 'jpeg' | 'webp') =>
  sharp({ create: { width: 60, height: 80, channels: 3, background: '#fff' } })
    .toFormat(format)
    .toBuffer();

describe('a scan', () => {
  test('is kept beside the newest consent, or the one that is named, and its hash in the audit trail', async () => {
    using world = openWorld();
    const { store, blobs, add, file } = world;

    const first = await add('P1', file('Anna Miller.docx', pdf));
    const second = await add('P1', file('scan.jpg', await picture('jpeg')), 2);
    const third = await add('P2', file('scan.png', await picture('png')));

    expect(first).toMatchObject({ consentEventId: 1, mediaType: 'application/pdf', sizeBytes: pdf.length });
    expect(second).toMatchObject({ consentEventId: 2, mediaType: 'image/jpeg' });
    expect(third).toMatchObject({ consentEventId: 3, mediaType: 'image/png' });
    expect(Buffer.from(await blobs.read(first.sha256)).toString()).toBe(pdf);
    const trail = store.audit.page().filter(({ action }) => action === 'consent.document-added');
    expect(trail.map(({ details }) => details['document'])).toEqual([
      third.sha256,
      second.sha256,
      first.sha256,
    ]);
    expect(JSON.stringify(trail)).not.toMatch(/P1|P2|Miller/);
    expect(await sweepBlobs(store, blobs)).toBe(0);
  });

  test('that is there already is not kept twice', async () => {
    using world = openWorld();
    const scan = world.file('a.pdf', pdf);
    expect(await world.add('P2', scan)).toEqual(await world.add('P2', scan));
    expect(world.store.consentDocuments.ofSubject(2)).toHaveLength(1);
  });

  test('goes with its file when it is taken away, unless another consent has the same', async () => {
    using world = openWorld();
    const { add, remove, blobs, store } = world;
    const scan = world.file('a.pdf', pdf);
    const [one, two] = [await add('P1', scan), await add('P2', scan)];
    await remove(one.id);
    expect(blobs.has(one.sha256)).toBe(true);
    await remove(two.id);
    expect(blobs.has(one.sha256)).toBe(false);
    expect(store.audit.newestOf('consent.document-removed')!.details).toMatchObject({ document: one.sha256 });
    await expect(remove(two.id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each<[string, (world: ReturnType<typeof openWorld>) => Promise<string> | string, string]>([
    ['a Word document', ({ file }) => file('a.pdf', 'PK\u0003\u0004word'), 'DOCUMENT_UNUSABLE'],
    ['a WebP image', async ({ file }) => file('a.png', await picture('webp')), 'DOCUMENT_UNUSABLE'],
    ['an empty file', ({ file }) => file('a.pdf', ''), 'DOCUMENT_UNUSABLE'],
    ['a PDF that was cut short', ({ file }) => file('a.pdf', pdf.slice(0, 30)), 'DOCUMENT_UNUSABLE'],
    [
      'a picture that was cut short',
      async ({ file }) => file('a.jpg', (await picture('jpeg')).subarray(0, 200)),
      'DOCUMENT_UNUSABLE',
    ],
    ['no file', ({ dir }) => path.join(dir, 'none.pdf'), 'DOCUMENT_UNUSABLE'],
    ['a folder', ({ dir }) => dir, 'DOCUMENT_UNUSABLE'],
    [
      'a file of more than 10 MB',
      ({ file }) => {
        const large = file('a.pdf', pdf);
        truncateSync(large, maxDocumentBytes + 1);
        return large;
      },
      'DOCUMENT_UNUSABLE',
    ],
  ])('that is %s is refused, and leaves nothing', async (_what, make, code) => {
    using world = openWorld();
    mkdirSync(path.join(world.dir, 'empty'));
    await expect(world.add('P2', await make(world))).rejects.toMatchObject({ code });
    expect(world.blobs.list()).toEqual([]);
    expect(world.store.audit.newestOf('consent.document-added')).toBeNull();
  });

  test.each([
    ['an unknown subject', 'P9', undefined, 'SUBJECT_UNKNOWN'],
    ['a subject without a consent', 'P3', undefined, 'NOT_FOUND'],
    ['the consent of another subject', 'P1', 3, 'NOT_FOUND'],
  ])('of %s is refused', async (_what, pseudonym, eventId, code) => {
    using world = openWorld();
    await expect(world.add(pseudonym, world.file('a.pdf', pdf), eventId)).rejects.toMatchObject({ code });
    expect(world.blobs.list()).toEqual([]);
  });
});
