/** One bad file is set aside with a true sentence, and the rest is imported. */
import { spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { defaultSitePolicy, imageLimitsOf } from '../../core/config/site-policy.ts';
import { type ImportOptions, importFolder } from '../../core/data/import-folder.ts';
import { createRandom } from '../../core/shared/random.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore, type Store } from '../../core/store/store.ts';

let folder: string;
let images: string;
let store: Store;
let blobs: BlobStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-aside-'));
  images = join(folder, 'images');
  await mkdir(images);
  store = openStore(join(folder, 'anneal.sqlite'));
  blobs = createBlobStore(join(folder, 'blobs'));
});
afterEach(async () => {
  store.close();
  await rm(folder, { recursive: true });
});

/** Blobs of light: no two seeds look alike, and each is as sharp as `cells` is many. */
async function picture(seed: number, side = 64, cells = 16): Promise<Buffer> {
  const random = createRandom(seed);
  const values = Uint8Array.from({ length: cells * cells * 3 }, () => 40 + random.integer(170));
  return sharp(values, { raw: { width: cells, height: cells, channels: 3 } })
    .resize(side, side, { kernel: 'cubic' })
    .png()
    .toBuffer();
}
const add = async (file: string, bytes: Uint8Array | Promise<Uint8Array>) =>
  writeFile(join(images, file), await bytes);

async function importFiles(
  files: readonly string[],
  options: Partial<ImportOptions> = {},
  lines: string[] = [],
) {
  const labelsFile = join(folder, 'labels.csv');
  const rows = files.map((file, index) => `"${file}",s${index},x`);
  await writeFile(labelsFile, `${['file,subject,label', ...rows, ...lines].join('\n')}\n`);
  return importFolder({
    ...{ store, blobs, imagesFolder: images, labelsFile, dataset: 'clinic' },
    ...{ alreadyCropped: true, recordedBy: 'data manager' },
    ...options,
  });
}

/** Root may read everything. */
const isRoot = process.getuid?.() === 0;

const badFiles: [
  what: string,
  kind: string,
  reason: RegExp,
  make: (file: string) => Promise<unknown>,
  skip?: boolean,
][] = [
  [
    'is damaged',
    'unreadable',
    /^is damaged or cut short$/,
    async (file) => add(file, (await picture(5)).subarray(0, 900)),
  ],
  [
    'is no image',
    'unreadable',
    /^is not an image that Anneal can read$/,
    (file) => add(file, Buffer.from('hello')),
  ],
  ['is empty', 'unreadable', /^is empty/, (file) => add(file, Buffer.alloc(0))],
  [
    'is of a kind that is not read',
    'unsupported',
    /^is a GIF image/,
    async (file) =>
      add(
        file,
        await sharp(await picture(6))
          .gif()
          .toBuffer(),
      ),
  ],
  [
    'has too many pixels',
    'too-large',
    /^has 9000 × 9000 pixels/,
    async (file) =>
      add(
        file,
        await sharp({ create: { width: 9000, height: 9000, channels: 3, background: '#000' } })
          .toColourspace('b-w')
          .png()
          .toBuffer(),
      ),
  ],
  [
    'is too large',
    'too-large',
    /^is larger than 64 MB$/,
    async (file) => {
      await add(file, Buffer.alloc(1));
      await truncate(join(images, file), 64 * 2 ** 20 + 1);
    },
  ],
  ['is missing', 'missing', /^is not in the image folder$/, async () => {}],
  ['is a folder', 'unreadable', /^is a folder/, (file) => mkdir(join(images, file))],
  [
    'is a pipe',
    'unreadable',
    /^is not an ordinary file/,
    async (file) => spawnSync('mkfifo', [join(images, file)]),
    process.platform === 'win32',
  ],
  [
    'may not be read',
    'unreadable',
    /^may not be read by the account/,
    async (file) => {
      await add(file, picture(7));
      await chmod(join(images, file), 0);
    },
    isRoot || process.platform === 'win32',
  ],
  [
    'is a link out of the folder',
    'unreadable',
    /a link that leads out of the image folder/,
    async (file) => {
      await writeFile(join(folder, 'secret.png'), await picture(8));
      await symlink('../secret.png', join(images, file));
    },
  ],
  [
    'is a link that leads nowhere',
    'missing',
    /^is not in the image folder$/,
    (file) => symlink('nowhere.png', join(images, file)),
  ],
  [
    'is a link to itself',
    'unreadable',
    /is a link that leads nowhere/,
    (file) => symlink(file, join(images, file)),
  ],
];

describe('a file that', () => {
  test.each(badFiles.filter(([, , , , skip]) => !skip))(
    '%s is set aside, and the others are imported',
    async (_what, kind, reason, make) => {
      await add('a.png', picture(1));
      await make('bad.png');
      await add('z.png', picture(2));

      const report = await importFiles(['a.png', 'bad.png', 'z.png']);

      expect(report).toMatchObject({ imported: 2, alreadyThere: 0 });
      expect(report.setAside).toEqual([
        { sourceName: 'bad.png', pseudonym: 's1', kind, reason: expect.stringMatching(reason) },
      ]);
      expect(report.setAside[0]!.reason).not.toContain(folder);
      expect(store.images.list({ status: 'ready' })).toHaveLength(2);
    },
  );

  test('lies behind a linked folder that leads out is refused, and one that stays inside is not', async () => {
    await mkdir(join(folder, 'other'));
    await writeFile(join(folder, 'other', 'a.png'), await picture(1));
    await symlink('../other', join(images, 'out'));
    await mkdir(join(images, 'inside'));
    await add('inside/b.png', picture(2));
    await symlink('inside', join(images, 'in'));
    await symlink('inside/b.png', join(images, 'c.png'));

    const report = await importFiles(['out/a.png', 'in/b.png']);
    const linked = await importFiles(['c.png'], { dataset: 'other' });

    expect(report).toMatchObject({ imported: 1, setAside: [{ sourceName: 'a.png', kind: 'unreadable' }] });
    expect(linked.imported).toBe(1);
  });

  test('was damaged is imported once it is whole, and the report says so again while it is not', async () => {
    const whole = await picture(3);
    await add('a.png', picture(1));
    await add('b.png', whole.subarray(0, 900));
    await importFiles(['a.png', 'b.png']);

    const again = await importFiles(['a.png', 'b.png']);
    await add('b.png', whole);
    const repaired = await importFiles(['a.png', 'b.png']);

    expect(again).toMatchObject({ imported: 0, alreadyThere: 1, setAside: [{ sourceName: 'b.png' }] });
    expect(repaired).toMatchObject({ imported: 1, alreadyThere: 1, setAside: [] });
  });

  test('has a name with accents is found however they are written', async () => {
    await add('Zoë.png'.normalize('NFD'), picture(1));
    await add('Müller.png'.normalize('NFC'), picture(2));

    const report = await importFiles(['Zoë.png'.normalize('NFC'), 'Müller.png'.normalize('NFD')]);

    expect(report).toMatchObject({ imported: 2, setAside: [] });
  });
});

test('a full disk and a stop still end the import and leave nothing', async () => {
  await add('a.png', picture(1));
  await add('bad.png', Buffer.from('hello'));
  const put = () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }));

  await expect(importFiles(['bad.png', 'a.png'], { blobs: { ...blobs, put } })).rejects.toMatchObject({
    code: 'DISK_FULL',
  });
  await expect(importFiles(['bad.png', 'a.png'], { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'CANCELLED',
  });

  expect(store.images.list()).toEqual([]);
  expect(store.datasets.list()).toEqual([]);
});

describe('the limits of the policy', () => {
  const limits = imageLimitsOf(defaultSitePolicy);

  test('set aside what does not keep them, naming figure and limit, and a looser policy takes it back', async () => {
    await add('small.png', picture(1, 30));
    await add('blurred.png', picture(2, 64, 3));
    await add(
      'black.png',
      sharp(await picture(3))
        .linear(0.01, 0)
        .png()
        .toBuffer(),
    );
    await add(
      'white.png',
      sharp(await picture(4))
        .linear(1, 240)
        .png()
        .toBuffer(),
    );
    await add('good.png', picture(5));
    const files = ['small.png', 'blurred.png', 'black.png', 'white.png', 'good.png'];

    const report = await importFiles(files, { limits });

    expect(report.imported).toBe(1);
    expect(report.setAside.map(({ kind }) => kind)).toEqual(['quality', 'quality', 'quality', 'quality']);
    const reasons = report.setAside.map(({ reason }) => reason);
    expect(reasons[0]).toMatch(/^the face is 30 pixels wide; at least 48 are asked for/);
    expect(reasons[1]).toMatch(/^the face is blurred: sharpness 0\.0\d+; at least 0\.03 is asked for$/);
    expect(reasons[2]).toMatch(/100 % of the face is black; at most 60 % is allowed/);
    expect(reasons[3]).toMatch(/100 % of the face is white; at most 60 % is allowed/);
    expect(report.quality).toHaveLength(5);
    for (const { status, cropSha256, quality } of store.images.list()) {
      expect(quality).not.toBeNull();
      expect(cropSha256 === null).toBe(status === 'set-aside');
    }

    const loose = await importFiles(files, { limits: { ...limits, minFacePixels: 10, minSharpness: 0 } });

    expect(loose).toMatchObject({
      imported: 2,
      alreadyThere: 1,
      setAside: [{ sourceName: 'black.png' }, { sourceName: 'white.png' }],
    });
    for (const { cropSha256 } of store.images.list({ status: 'ready' }))
      expect(blobs.has(cropSha256!)).toBe(true);
  });
});

describe('pictures that are nearly the same', () => {
  test('are asked about: of two subjects, on both sides of the split, and twice on one', async () => {
    const one = await picture(1);
    await add('one.png', one);
    await add('one-again.jpg', sharp(one).jpeg({ quality: 60 }).toBuffer());
    await add('two.png', picture(2));
    await add(
      'two-scaled.png',
      sharp(await picture(2))
        .resize(120)
        .png()
        .toBuffer(),
    );
    await add('three.png', picture(3));
    await add(
      'three-bright.png',
      sharp(await picture(3))
        .modulate({ brightness: 1.1 })
        .png()
        .toBuffer(),
    );
    const labelsFile = join(folder, 'labels.csv');
    await writeFile(
      labelsFile,
      `file,subject,label,split
one.png,s1,x,train
one-again.jpg,s2,x,train
two.png,s3,x,train
two-scaled.png,s3,x,test
three.png,s4,x,train
three-bright.png,s4,x,train
`,
    );
    const options = {
      store,
      blobs,
      imagesFolder: images,
      labelsFile,
      dataset: 'clinic',

      alreadyCropped: true,
      recordedBy: 'x',
    };

    const { duplicates, imported } = await importFolder(options);
    const again = await importFolder(options);

    expect(imported).toBe(6);
    expect(
      duplicates.map(({ kind, images: pair }) => [kind, ...pair.map(({ sourceName }) => sourceName)]),
    ).toEqual([
      ['two-subjects', 'one.png', 'one-again.jpg'],
      ['both-splits', 'two.png', 'two-scaled.png'],
      ['same-split', 'three.png', 'three-bright.png'],
    ]);
    // Asked once.
    expect(again.duplicates).toEqual([]);
  });

  test('are found between what is new and what is there, and copies of files are not asked about', async () => {
    const one = await picture(1);
    await add('one.png', one);
    await importFiles(['one.png']);
    await add('copy.jpg', sharp(one).jpeg({ quality: 70 }).toBuffer());
    await copyFile(join(images, 'one.png'), join(images, 'same.png'));

    const report = await importFiles([], {}, ['same.png,s0,x', 'copy.jpg,s9,x']);

    expect(report).toMatchObject({ imported: 1, alreadyThere: 1 });
    expect(report.duplicates).toMatchObject([
      { kind: 'two-subjects', images: [{ pseudonym: 's0' }, { pseudonym: 's9' }] },
    ]);
  });
});
