/** Photographs that an earlier version imported, for base models that need more of a face; and how they become of use. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { heldOutImages, trainingImages } from '../../core/consent/cohort.ts';
import { decodeCrop, encodeCrop } from '../../core/data/crop-file.ts';
import { arcfaceTemplate, type FiveLandmarks } from '../../core/data/face-templates.ts';
import type { FaceDetector } from '../../core/data/faces.ts';
import { importFolder } from '../../core/data/import-folder.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { describeOlderCrops, onlyOlderCrops } from '../../core/site/older-crops.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';

let folder: string;
let store: Store;
let blobs: BlobStore;
const landmarks = arcfaceTemplate.points.map(({ x, y }) => ({
  x: x + 60,
  y: y + 50,
})) as unknown as FiveLandmarks;
const box = { x: 80, y: 70, width: 70, height: 90 };
/** Says that a face is there: what the networks see is tested in faces.test.ts. */
const detector: FaceDetector = {
  detect: async ({ width }) => (width > 100 ? [{ box, landmarks, score: 1 }] : []),
  close: async () => {},
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-older-'));
  store = openStore(join(folder, 'anneal.sqlite'));
  blobs = createBlobStore(join(folder, 'blobs'));
});
afterEach(async () => {
  store.close();
  await rm(folder, { recursive: true });
});

/** A photograph as version 0.1 imported it: a square of 150 pixels, and where the face was. */
async function older(name: string, side = 240): Promise<string> {
  const bytes = await sharp({
    create: { width: side, height: side, channels: 3, background: name.includes('b') ? '#654' : '#456' },
  })
    .png()
    .toBuffer();
  await writeFile(join(folder, name), bytes);
  const crop = await blobs.put(
    encodeCrop({ width: 150, height: 150, data: new Uint8Array(67_500).fill(name.length) }),
  );
  const dataset = store.datasets.ensure('clinic');
  const subject = store.subjects.upsert({ pseudonym: `of ${name}` });
  store.images.insert({
    ...{
      datasetId: dataset.id,
      subjectId: subject.id,
      sha256: sha256(bytes),
      sourceName: name,
      label: 'x',
      split: 'train',
    },
    ...{ status: 'ready', width: side, height: side, faceBox: box, cropSha256: crop, cropKind: 'dlib-150' },
  });
  store.consentEvents.append({
    ...{ subjectId: subject.id, kind: 'grant', purpose: 'federated-training', documentVersion: 'v1' },
    ...{ validFrom: '2020-01-01T00:00:00.000Z', expiresAt: null, recordedBy: 'x' },
  });
  return crop;
}

async function importAgain(names: readonly string[]) {
  const labelsFile = join(folder, 'labels.csv');
  await writeFile(
    labelsFile,
    ['file,subject,label', ...names.map((name) => `${name},of ${name},x`)].join('\n'),
  );
  return importFolder({
    ...{ store, blobs, imagesFolder: folder, labelsFile, dataset: 'clinic' },
    ...{ alreadyCropped: false, recordedBy: 'x', detector },
  });
}

const request = () => ({ runId: 'r', round: 0, purpose: 'federated-training', at: store.clock.latest() });

describe('a square of an earlier version', () => {
  test('serves the alignment that it was cut for, and no other', async () => {
    await older('a.png');

    expect(trainingImages(store, request())).toHaveLength(1);
    expect(trainingImages(store, { ...request(), alignment: 'dlib-150' })).toHaveLength(1);
    for (const alignment of ['arcface-112', 'box', 'none'] as const) {
      expect(trainingImages(store, { ...request(), alignment })).toEqual([]);
      expect(heldOutImages(store, { ...request(), alignment })).toEqual([]);
      const all = trainingImages(store, request());
      expect(describeOlderCrops(all, alignment)).toMatch(
        /^1 photograph was imported by an earlier version .*Import it again/,
      );
      expect(onlyOlderCrops(all, alignment)).toMatchObject({
        code: 'NOT_ENOUGH_DATA',
        action: expect.stringContaining('Import'),
      });
    }
    expect(describeOlderCrops(trainingImages(store, request()), 'dlib-150')).toBeNull();
    expect(onlyOlderCrops([], 'arcface-112')).toBeNull();
  });

  test('becomes a region when the photograph is imported again, and its file goes', async () => {
    const crop = await older('a.png');
    const [before] = store.images.list();

    const report = await importAgain(['a.png']);

    const [image] = store.images.list();
    expect(report).toMatchObject({ imported: 1, alreadyThere: 0 });
    expect(image).toMatchObject({
      id: before!.id,
      status: 'ready',
      cropKind: 'region',
      split: 'train',
      label: 'x',
    });
    expect(decodeCrop(await blobs.read(image!.cropSha256!), 'crop').face).not.toBeNull();
    expect(blobs.has(crop)).toBe(false);
    expect(trainingImages(store, { ...request(), alignment: 'arcface-112' })).toHaveLength(1);
    // Once is enough.
    expect(await importAgain(['a.png'])).toMatchObject({ imported: 0, alreadyThere: 1 });
  });

  test('stays in use when no face is found now', async () => {
    const crop = await older('b.png', 90);

    expect(await importAgain(['b.png'])).toMatchObject({ imported: 0, alreadyThere: 1, setAside: [] });

    expect(store.images.list()[0]).toMatchObject({ status: 'ready', cropKind: 'dlib-150', cropSha256: crop });
    expect(blobs.has(crop)).toBe(true);
  });
});
