import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readLabelsCsv } from '../../core/data/labels-csv.ts';
import {
  type SiteFolder,
  type SiteFoldersOptions,
  splitFolderForSites,
} from '../../core/data/site-folders.ts';
import { AppError } from '../../core/shared/errors.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-sites-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function split(lines: string[], options: Partial<SiteFoldersOptions> = {}) {
  const labelsFile = join(folder, 'all.csv');
  await writeFile(labelsFile, `${lines.join('\n')}\n`);
  const outFolder = join(folder, 'sites');
  const sites = await splitFolderForSites({
    imagesFolder: join(folder, 'images'),
    labelsFile,
    sites: 3,
    seed: 1,
    alpha: 0.5,
    outFolder,
    ...options,
  });
  const rows = await Promise.all(sites.map((site) => readLabelsCsv(site.labelsFile)));
  return { sites, rows };
}

/** `people` labels, one subject each, with `each` images, the last `test` of them held out. */
function identities(people: number, each: number, test: number): string[] {
  const lines = ['file,subject,label,split'];
  for (let person = 0; person < people; person++) {
    for (let index = 0; index < each; index++) {
      const side = index >= each - test ? 'test' : 'train';
      lines.push(`${person}-${index}.png,s${person},s${person},${side}`);
    }
  }
  return lines;
}

const testsAt = (site: SiteFolder) => Object.values(site.byLabel).reduce((sum, { test }) => sum + test, 0);
const trainsAt = (site: SiteFolder) => Object.values(site.byLabel).reduce((sum, { train }) => sum + train, 0);

test('every image is at one site; the test split is kept and spread evenly', async () => {
  const lines = identities(40, 10, 5);

  const { sites, rows } = await split(lines);

  const files = rows.flat().map(({ file, split }) => `${file} ${split}`);
  expect(files).toHaveLength(400);
  expect(new Set(files)).toEqual(
    new Set(lines.slice(1).map((line) => `${line.split(',')[0]} ${line.split(',')[3]}`)),
  );
  expect(sites.map(testsAt).sort()).toEqual([66, 67, 67]);
  for (const site of sites) expect(trainsAt(site)).toBeGreaterThanOrEqual(34);
  // Uneven: some person trains at some site only.
  const shares = sites.map((site) => site.byLabel['s0']?.train ?? 0);
  expect(Math.max(...shares)).toBeGreaterThanOrEqual(2);
});

test('images stay where they are: only CSV files are written', async () => {
  const { sites } = await split(identities(6, 6, 2));

  const written = await readdir(join(folder, 'sites'), { recursive: true });
  expect(written.filter((name) => !name.endsWith('labels.csv')).sort()).toEqual([
    'hospital-1',
    'hospital-2',
    'hospital-3',
  ]);
  expect(new Set(sites.map(({ imagesFolder }) => imagesFolder))).toEqual(new Set([join(folder, 'images')]));
});

test('subjects stay together where every label has enough of them', async () => {
  const lines = ['file,subject,label'];
  for (let subject = 0; subject < 30; subject++) {
    for (let index = 0; index < 3; index++) {
      lines.push(`${subject}-${index}.png,s${subject},${subject % 2 === 0 ? 'x' : 'y'}`);
    }
  }

  const { rows } = await split(lines);

  const placeOf = new Map<string, string>();
  rows.forEach((members, site) => {
    for (const { subject, split: side } of members) {
      const place = `${site} ${side}`;
      expect(placeOf.get(subject) ?? place).toBe(place);
      placeOf.set(subject, place);
    }
  });
  expect([...placeOf.values()].filter((place) => place.endsWith('test')).length).toBe(8);
});

test('the column "site" decides where there is one', async () => {
  const { sites, rows } = await split([
    'file,subject,label,split,site',
    'a.png,s1,x,train,Süd',
    'b.png,s2,x,train,Nord',
    'c.png,s3,y,test,Nord',
  ]);

  expect(sites.map(({ name }) => name)).toEqual(['Nord', 'Süd']);
  expect(rows.map((members) => members.map(({ file }) => file))).toEqual([['b.png', 'c.png'], ['a.png']]);
  expect(sites[0]!.byLabel).toEqual({ x: { train: 1, test: 0 }, y: { train: 0, test: 1 } });
});

test('what the CSV says of consent is passed on; a document for all is used only when it says nothing', async () => {
  const silent = await split(identities(6, 6, 2), { consentDocument: 'declared-1' });
  expect(silent.rows.flat().every(({ consent }) => consent?.documentVersion === 'declared-1')).toBe(true);

  const spoken = await split(
    [
      'file,subject,label,split,site,consent,consent_document,consent_expires',
      'a.png,s1,x,train,A,granted,"form, v2",2030-01-01',
      'b.png,s2,x,train,B,none,,',
      'c.png,s3,y,train,B,,,',
    ],
    { consentDocument: 'declared-1' },
  );
  const consents = spoken.rows
    .flat()
    .map(({ consent }) => consent && [consent.kind, consent.documentVersion]);
  expect(consents).toEqual([['granted', 'form, v2'], ['none', null], null]);

  const undeclared = await split(identities(6, 6, 2));
  expect(undeclared.rows.flat().every(({ consent }) => consent === null)).toBe(true);
});

test('file names with separators and quotation marks survive', async () => {
  const { rows } = await split([
    'file,subject,label,split,site',
    '"a, b ""c"".png",s1,x,train,A',
    'd;e.png,s2,x,train,A',
  ]);
  expect(rows[0]!.map(({ file }) => file)).toEqual(['a, b "c".png', 'd;e.png']);
});

test('a site without training images, or a line without a site, is one clear error', async () => {
  const few = split(['file,subject,label,split', 'a.png,s,x,train', 'b.png,s,x,test']);
  await expect(few).rejects.toThrow(AppError);
  await expect(few).rejects.toMatchObject({ code: 'NOT_ENOUGH_DATA' });

  const bare = split(['file,subject,label,site', 'a.png,s,x,A', 'b.png,s,x,']);
  await expect(bare).rejects.toMatchObject({
    code: 'CSV_MALFORMED',
    message: expect.stringContaining('line 3, column "site"'),
  });
});
