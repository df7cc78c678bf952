import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withdrawConsent } from '../../core/consent/consent.ts';
import { decodeCrop } from '../../core/data/crop-file.ts';
import { type ImportOptions, importFolder } from '../../core/data/import-folder.ts';
import { createFaceDetector } from '../../core/engine/faces/detector.ts';
import { AppError } from '../../core/shared/errors.ts';
import { createRandom } from '../../core/shared/random.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';

let folder: string;
let images: string;
let blobFolder: string;
let store: Store;
let blobs: BlobStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-import-'));
  images = join(folder, 'images');
  blobFolder = join(folder, 'blobs');
  await mkdir(images);
  store = openStore(join(folder, 'anneal.sqlite'), { now: () => new Date('2026-06-01T12:00:00Z') });
  blobs = createBlobStore(blobFolder);
});
afterEach(async () => {
  store.close();
  await rm(folder, { recursive: true });
});

async function image(file: string, seed: number, width = 24, height = 24): Promise<void> {
  const random = createRandom(seed);
  const pixels = Uint8Array.from({ length: width * height * 3 }, () => random.integer(256));
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(join(images, file));
}

/** `count` images of two labels, two images per subject. */
async function writeImages(count: number): Promise<string[]> {
  const lines: string[] = [];
  for (let index = 0; index < count; index++) {
    await image(`p${index}.png`, index);
    lines.push(`p${index}.png,s${Math.floor(index / 2)},${index % 4 < 2 ? 'x' : 'y'}`);
  }
  return lines;
}

async function importCsv(lines: string[], options: Partial<ImportOptions> = {}) {
  const labelsFile = join(folder, 'labels.csv');
  await writeFile(labelsFile, `${lines.join('\n')}\n`);
  return importFolder({
    store,
    blobs,
    imagesFolder: images,
    labelsFile,
    dataset: 'clinic',
    alreadyCropped: true,
    startDetector: () => createFaceDetector(),
    recordedBy: 'data manager',
    ...options,
  });
}

async function blobCount(): Promise<number> {
  const entries = await readdir(blobFolder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).length;
}

/** No image, no crop, no dataset. `consents`: what the table said of consent is recorded all the same. */
async function expectNothingRecorded({ consents = 0 } = {}): Promise<void> {
  expect(store.images.list()).toEqual([]);
  expect(store.subjects.count()).toBe(consents);
  expect(store.consentEvents.all()).toHaveLength(consents);
  expect(store.datasets.list()).toEqual([]);
  expect(store.audit.page().filter(({ action }) => action === 'dataset.import')).toEqual([]);
  expect(await blobCount()).toBe(0);
}

async function errorOf(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

const header = 'file,subject,label';

describe('an import that succeeds', () => {
  test('records images, crops, splits by subject and an audit entry', async () => {
    const progress: number[] = [];

    const report = await importCsv([header, ...(await writeImages(32))], {
      onProgress: ({ done }) => progress.push(done),
    });

    expect(report).toEqual({
      imported: 32,
      setAside: [],
      alreadyThere: 0,
      withoutConsent: 32,
      withdrawn: [],
      contradictions: [],
      stillWithdrawn: [],
      reconsented: [],
      duplicates: [],
      quality: expect.any(Array),
      byLabel: { x: { train: 12, test: 4 }, y: { train: 12, test: 4 } },
    });
    const records = store.images.list();
    expect(records).toHaveLength(32);
    for (const subject of store.subjects.list()) {
      const sides = new Set(records.filter(({ subjectId }) => subjectId === subject.id).map((r) => r.split));
      expect(sides.size).toBe(1);
    }
    const { image: crop } = decodeCrop(await blobs.read(records[0]!.cropSha256!), 'crop');
    // As they are: each base model scales them to what it takes.
    expect([crop.width, crop.height]).toEqual([24, 24]);
    expect(progress).toEqual(Array.from({ length: 32 }, (_, index) => index + 1));
    expect(store.audit.page()[0]).toMatchObject({
      actor: 'data manager',
      action: 'dataset.import',
      details: { dataset: 'clinic', imported: 32 },
    });
  });

  test('has all crops safe on the disk before the database names one', async () => {
    const order: string[] = [];
    const watchedBlobs: BlobStore = {
      ...blobs,
      async put(bytes, options) {
        const hash = await blobs.put(bytes, options);
        order.push('put');
        return hash;
      },
      async settle() {
        order.push('settle');
        await blobs.settle();
        order.push('settled');
      },
    };
    const watchedStore: Store = {
      ...store,
      transaction: (work) => {
        order.push('transaction');
        return store.transaction(work);
      },
    };

    await importCsv([header, ...(await writeImages(3))], { blobs: watchedBlobs, store: watchedStore });

    // The first transaction is that of the consents, of which there are none here.
    expect(order).toEqual(['transaction', 'put', 'put', 'put', 'settle', 'settled', 'transaction']);
  });

  test('pads an image that is not square instead of stretching it', async () => {
    await sharp({ create: { width: 40, height: 20, channels: 3, background: '#ffffff' } })
      .jpeg()
      .toFile(join(images, 'wide.jpg'));

    await importCsv([header, 'wide.jpg,s,x']);

    const [record] = store.images.list();
    expect([record!.width, record!.height]).toEqual([40, 20]);
    const { image: crop } = decodeCrop(await blobs.read(record!.cropSha256!), 'crop');
    const brightness = (x: number, y: number) => crop.data[(y * 40 + x) * 3]!;
    expect([brightness(20, 2), brightness(20, 20), brightness(20, 37)]).toEqual([0, 255, 0]);
  });

  test('of the same files again adds nothing', async () => {
    const lines = [
      `${header},consent,consent_document,consent_expires`,
      ...(await writeImages(8)).map((line) => `${line},granted,v1,2030-01-01`),
    ];
    await importCsv(lines);
    const before = [store.images.list(), store.consentEvents.all(), await blobCount()];

    const report = await importCsv(lines);

    expect(report).toMatchObject({ imported: 0, alreadyThere: 8, setAside: [], byLabel: {} });
    expect([store.images.list(), store.consentEvents.all(), await blobCount()]).toEqual(before);
  });

  test('keeps new images of a known subject on its side', async () => {
    await importCsv([header, ...(await writeImages(32))]);
    const sideOf = new Map(store.images.list().map(({ pseudonym, split }) => [pseudonym, split]));
    const more: string[] = [];
    for (let index = 0; index < 16; index++) {
      await image(`n${index}.png`, 100 + index);
      more.push(`n${index}.png,s${index},${index % 2 === 0 ? 'x' : 'y'}`);
    }

    await importCsv([header, ...more]);

    for (const record of store.images.list()) expect(record.split).toBe(sideOf.get(record.pseudonym));
  });
});

describe('consent in the CSV', () => {
  test('is recorded once per subject and counted in the report', async () => {
    const [a, b, c, d, e, f] = await writeImages(6);

    const report = await importCsv([
      `${header},consent,consent_document,consent_from,consent_expires`,
      `${a},granted,v2,2026-01-01,`,
      `${b},granted,v2,2026-01-01,`,
      `${c},granted,v2,2026-01-01,2026-03-01`,
      `${d},,,,`,
      `${e},withdrawn,,,`,
      `${f},withdrawn,,,`,
    ]);

    // s0 is active; the consent of s1 ended in March, s2 withdrew.
    expect(report.withoutConsent).toBe(4);
    expect(store.consentEvents.all().map(({ kind, purpose }) => [kind, purpose])).toEqual([
      // First of all, and from every purpose, since the table names none.
      ['withdraw', '*'],
      ['grant', 'federated-training'],
      ['grant', 'federated-training'],
    ]);
  });

  test.each([
    ['another name of the document', 'granted,V1,2026-01-01,'],
    ['another date before it', 'granted,v1,2026-02-01,'],
    ['no date', 'granted,v1,,'],
    ['the day of the withdrawal', 'granted,v2,2026-06-01,'],
  ])(
    'that was withdrawn since is not brought back by a CSV with %s, and the report says so',
    async (_what, consent) => {
      const header = 'file,subject,label,consent,consent_document,consent_from,consent_expires';
      const [line] = await writeImages(1);
      await importCsv([header, `${line},granted,v1,2026-01-01,`]);
      withdrawConsent(store, { pseudonym: 's0', recordedBy: 'nurse' });

      const { stillWithdrawn } = await importCsv([header, `${line},${consent}`]);

      expect(stillWithdrawn).toEqual(['s0']);
      expect(store.consentEvents.all().map(({ kind }) => kind)).toEqual(['grant', 'withdraw']);
    },
  );

  test('that was withdrawn since is not brought back by an old CSV', async () => {
    const [a, b] = await writeImages(2);
    const lines = [`${header},consent,consent_document`, `${a},granted,v1`, `${b},granted,v1`];
    await importCsv(lines);
    withdrawConsent(store, { pseudonym: 's0', recordedBy: 'nurse' });
    await image('new.png', 77);

    const report = await importCsv([...lines, 'new.png,s0,x,granted,v1']);

    expect(report).toMatchObject({ imported: 1, withoutConsent: 1 });
    expect(store.consentEvents.all().map(({ kind }) => kind)).toEqual(['grant', 'withdraw']);
  });
});

describe('an import that fails leaves nothing behind', () => {
  test('when none of the images is there: the folder is the wrong one', async () => {
    const done: number[] = [];

    const error = await errorOf(
      importCsv([header, 'gone.png,s9,x', 'away.png,s9,x'], {
        onProgress: (progress) => done.push(progress.done),
      }),
    );

    expect(error.code).toBe('IMAGES_MISSING');
    expect(error.message).toBe(
      'The image "gone.png" of line 2 is not in the image folder, nor is any other.',
    );
    expect(done).toEqual([]);
    await expectNothingRecorded();
  });

  test('when the folder of images is not there', async () => {
    const error = await errorOf(importCsv([header, 'a.png,s,x'], { imagesFolder: join(folder, 'nowhere') }));
    expect(error.code).toBe('IMAGES_MISSING');
    expect(error.message).not.toContain(folder);
    await expectNothingRecorded();
  });

  test('when it is stopped on the way', async () => {
    const controller = new AbortController();

    const error = await errorOf(
      importCsv([header, ...(await writeImages(8))], {
        signal: controller.signal,
        onProgress: ({ done }) => done === 4 && controller.abort(),
      }),
    );

    expect(error.code).toBe('CANCELLED');
    await expectNothingRecorded();
  });

  test('when the disk is full while names of crops are written', async () => {
    const fullDisk: BlobStore = {
      ...blobs,
      settle: () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' })),
    };

    const error = await errorOf(importCsv([header, ...(await writeImages(6))], { blobs: fullDisk }));

    expect(error.code).toBe('DISK_FULL');
    await expectNothingRecorded();
  });

  test('when the disk is full while crops are written', async () => {
    let written = 0;
    const fullDisk: BlobStore = {
      ...blobs,
      put: (bytes) => {
        written += 1;
        return written > 3
          ? Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
          : blobs.put(bytes);
      },
    };

    const error = await errorOf(importCsv([header, ...(await writeImages(6))], { blobs: fullDisk }));

    expect(error.code).toBe('DISK_FULL');
    await expectNothingRecorded();
  });

  test('when the database refuses in the middle of recording', async () => {
    const lines = await writeImages(6);
    let inserts = 0;
    const failing: Store = {
      ...store,
      images: {
        ...store.images,
        insert: (image) => {
          inserts += 1;
          if (inserts === 4)
            throw Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
          return store.images.insert(image);
        },
      },
    };

    const error = await errorOf(
      importCsv([`${header},consent`, ...lines.map((line) => `${line},granted`)], { store: failing }),
    );

    expect(error.code).toBe('DISK_FULL');
    await expectNothingRecorded({ consents: 3 });
  });

  test('but crops that another import wrote stay', async () => {
    const lines = await writeImages(4);
    await importCsv([header, ...lines]);
    const controller = new AbortController();

    await errorOf(
      importCsv([header, ...lines], {
        ...{ dataset: 'other', signal: controller.signal },
        onProgress: ({ done }) => done === 4 && controller.abort(),
      }),
    );

    expect(await blobCount()).toBe(4);
    for (const { cropSha256 } of store.images.list()) expect(blobs.has(cropSha256!)).toBe(true);
  });
});

describe('the same image twice', () => {
  test('under two labels is refused, naming both lines', async () => {
    await image('a.png', 1);
    await copyFile(join(images, 'a.png'), join(images, 'b.png'));

    const error = await errorOf(importCsv([header, 'a.png,s,x', 'b.png,s,y']));

    expect(error.code).toBe('CSV_MALFORMED');
    expect(error.message).toBe(
      'labels.csv, line 3, column "label": "b.png" is the same image as "a.png" in line 2, with a different label.',
    );
    await expectNothingRecorded();
  });

  test('under the same label is recorded once', async () => {
    await image('a.png', 1);
    await copyFile(join(images, 'a.png'), join(images, 'b.png'));

    expect(await importCsv([header, 'a.png,s,x', 'b.png,s,x'])).toMatchObject({
      imported: 1,
      alreadyThere: 1,
    });
  });

  test('imported before under another subject is refused', async () => {
    await image('a.png', 1);
    await importCsv([header, 'a.png,s,x']);

    const error = await errorOf(importCsv([header, 'a.png,t,x']));

    expect(error.code).toBe('CSV_MALFORMED');
    expect(error.message).toContain('column "subject"');
    expect(store.subjects.count()).toBe(1);
  });
});

test('images without exactly one face are set aside with the reason, and a crop brings them back', async () => {
  const samples = join(
    dirname(createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json')),
    'demo',
  );
  // The first person of a sample of several people, and the sample as it is.
  await sharp(join(samples, 'sample1.jpg'))
    .extract({ left: 150, top: 150, width: 600, height: 800 })
    .jpeg()
    .toFile(join(images, 'one.jpg'));
  await copyFile(join(samples, 'sample1.jpg'), join(images, 'several.jpg'));
  await image('noise.png', 5, 200, 200);
  const lines = [header, 'one.jpg,s1,x', 'several.jpg,s2,x', 'noise.png,s3,y'];

  const report = await importCsv(lines, { alreadyCropped: false });

  expect(report.imported).toBe(1);
  expect(report.setAside).toEqual([
    { sourceName: 'several.jpg', pseudonym: 's2', reason: '3 faces found', kind: 'several-faces' },
    { sourceName: 'noise.png', pseudonym: 's3', reason: 'no face found', kind: 'no-face' },
  ]);
  const [one, several] = store.images.list();
  expect(one).toMatchObject({ status: 'ready', reason: null });
  expect(one!.faceBox!.width).toBeGreaterThan(50);
  expect(several).toMatchObject({ status: 'set-aside', reason: '3 faces found', cropSha256: null });

  const again = await importCsv(lines, { alreadyCropped: true });

  expect(again).toMatchObject({ imported: 2, alreadyThere: 1, setAside: [] });
  expect(store.images.list().map(({ status }) => status)).toEqual(['ready', 'ready', 'ready']);
});
