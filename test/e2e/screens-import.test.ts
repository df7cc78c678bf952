/** "Add images" in a real browser over a real agent, with a table as a German hospital exports it. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { createRandom } from '../../core/shared/random.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDeskAt } from '../fixtures/desk.ts';
import { startFederation, type TestFederation } from '../fixtures/federation.ts';

let folder: string;
let browser: Browser;
let federation: TestFederation;
let desk: Desk;
/** For a person who looks at them: ANNEAL_PICTURES=/tmp/x npx vitest run test/e2e/screens-import.test.ts */
const pictures = process.env['ANNEAL_PICTURES'];
const take = async (name: string) => {
  if (pictures === undefined) return;
  await desk.page.waitForTimeout(400);
  await desk.page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-import-'));
  await ensureBuilt();
  browser = await launchBrowser();
  federation = await startFederation(1, { screens: true, subjectsPerSite: 4 });
  desk = await openDeskAt(browser, federation.sites[0]!.agent);
  await desk.signIn();
  await mkdir(join(folder, 'Bilder'));
  for (let index = 0; index < 5; index++) {
    const random = createRandom(index);
    const pixels = Uint8Array.from({ length: 20 * 26 * 3 }, () => random.integer(256));
    await sharp(pixels, { raw: { width: 20, height: 26, channels: 3 } })
      .resize(200, 260, { kernel: 'nearest' })
      .jpeg()
      .toFile(join(folder, 'Bilder', `bild${index}.jpg`));
  }
}, 180_000);

afterAll(async () => {
  await browser?.close();
  await federation?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Semicolons, Windows-1252, German names, words and dates; a typing error, a missing file, and two spellings of one pseudonym. */
const rows = [
  'Datei;Patient;Diagnose;Einwilligung;Einwilligungsdatum;Station',
  'bild0.jpg;P900;unaffected;ja;31.03.2026;K\xf6',
  'bild1.jpg;p900;unaffected;ja;31.03.2026;K\xf6',
  'bild2.jpg;P901;unaffected;viell\xe4cht;31.03.2026;A',
  'bild3.jpg;P902;unaffected;widerrufen;;A',
  'fehlt.jpg;P903;unaffected;1;01.04.2026;A',
];

test('a table of a hospital is looked at, matched, corrected and imported; nothing is recorded before', async () => {
  const { page, button, field } = desk;
  const table = join(folder, 'Liste.csv');
  await writeFile(table, Buffer.from(`${rows.join('\r\n')}\r\n`, 'latin1'));
  const { client } = federation.sites[0]!.agent;
  const before = await client.audit.query();
  await page.goto(`${federation.sites[0]!.agent.url}#/dataset/import`);
  await field('Folder of photographs').fill(join(folder, 'Bilder'));
  await field('Table (CSV or Excel)').fill(table);
  await page.getByLabel('The images are already cropped to one face').check();
  desk.watch.expectedStatuses.add(400);
  await button('Preview').click();

  await page.getByText('Liste.csv, line 2: the text is not UTF-8.').waitFor();
  await take('encoding');
  await page.getByLabel('Text is encoded as').selectOption('windows-1252');

  await page.getByText('What Liste.csv says').waitFor();
  await page.getByLabel('Column for File').waitFor();
  expect(await page.getByLabel('Column for Pseudonym').inputValue()).toBe('Patient');
  const problems = page.getByRole('table', { name: 'Problems' });
  await problems.getByText('"31.03.2026" is not an ISO date').first().waitFor();
  await take('first-look');

  await page.getByLabel('Dates are written as').selectOption('dd.mm.yyyy');
  await problems.getByText('"31.03.2026"').first().waitFor({ state: 'detached' });
  await problems.getByText('"viell\u00e4cht" is neither "granted", "withdrawn" nor "none".').waitFor();
  await problems.getByText('The image "fehlt.jpg" is not in the image folder.').waitFor();
  const saved = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Save all problems as CSV' }).click();
  const text = await readFile(await (await saved).path(), 'utf8');
  expect(text).toContain('viell\u00e4cht');
  await take('problems');

  await page.getByLabel('Meaning of viell\u00e4cht').selectOption('none');
  await page.getByLabel('What was guessed for columns and words is right').check();
  await page.getByText('1 pair of pseudonyms look alike: one subject, or two?').waitFor();
  await take('questions');
  await page.getByLabel('P900 and p900').selectOption('first');
  await page.getByText('look alike: one subject, or two?').waitFor({ state: 'detached' });
  const thumbnail = page.getByRole('img', { name: 'Line 2: bild0.jpg' });
  await thumbnail.waitFor();
  expect(
    await thumbnail.evaluate((image: HTMLImageElement) => [image.naturalWidth, image.naturalHeight]),
  ).toEqual([74, 96]);
  await page
    .getByRole('table', { name: 'First rows' })
    .getByRole('cell', { name: '2026-03-31' })
    .first()
    .waitFor();
  await take('ready');
  expect(await client.audit.query(), 'nothing was recorded').toEqual(before);

  await page.getByRole('button', { name: 'Add images', exact: true }).click();
  await page.getByText('4 images added.').waitFor();
  await page.getByText('Withdrawn now, by this table: P902.').waitFor();
  await take('report');
  const subjects = await client.site.subjects.query({ search: '90' });
  expect(subjects.map(({ pseudonym }) => pseudonym)).toEqual(['P900', 'P901', 'P902', 'P903']);
});

test('the next table with these columns needs no answers but its encoding', async () => {
  const { page, button, field } = desk;
  const table = join(folder, 'Naechste.csv');
  await writeFile(table, `${rows[0]}\r\nbild4.jpg;P904;unaffected;1;02.04.2026;A\r\n`);
  await page.reload();
  await field('Folder of photographs').fill(join(folder, 'Bilder'));
  await field('Table (CSV or Excel)').fill(table);
  await page.getByLabel('The images are already cropped to one face').check();
  await button('Preview').click();

  await page.getByText('What Naechste.csv says').waitFor();
  await page.getByText('remembered').first().waitFor();
  await page.getByRole('button', { name: 'Add images', exact: true }).click();
  await page.getByText('1 image added.').waitFor();
});

test('a withdrawal does not wait for the rest of its table', async () => {
  const { page, button, field } = desk;
  const table = join(folder, 'Widerruf.csv');
  await writeFile(
    table,
    'file,subject,label,consent\nbild4.jpg,P904,unaffected,withdrawn\nx.jpg,,unaffected,granted\n',
  );
  await page.reload();
  await field('Folder of photographs').fill(join(folder, 'Bilder'));
  await field('Table (CSV or Excel)').fill(table);
  await button('Preview').click();

  await page.getByText('Widerruf.csv, line 3, column "subject": it is empty.').waitFor();
  expect(await page.getByRole('button', { name: 'Add images', exact: true }).isDisabled()).toBe(true);
  await button('Record 1 withdrawal now').click();
  await page.getByText(/1 withdrawal of the table was recorded all the same/).waitFor();
  await button('Record 1 withdrawal now').waitFor({ state: 'detached' });
  await take('withdrawal');
  const [subject] = await federation.sites[0]!.agent.client.site.subjects.query({ search: 'P904' });
  expect(subject?.consent).toBe('withdrawn');
});
