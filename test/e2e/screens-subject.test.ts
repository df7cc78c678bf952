/**
 * The page of one subject, in a real browser over a real site with a real store. The tests are one story and build on
 * each other.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDeskAt } from '../fixtures/desk.ts';
import { startFederation, type TestFederation } from '../fixtures/federation.ts';

const purpose = 'federated-training';
let folder: string;
let browser: Browser;
let federation: TestFederation;
let desk: Desk;
/** With images for training, by pseudonym. */
let trained: string[];
let heldOut: string;

const client = () => federation.sites[0]!.agent.client;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-subject-'));
  await ensureBuilt();
  browser = await launchBrowser();
  federation = await startFederation(1, { screens: true, approve: false });
  const pseudonyms = (await client().site.subjects.query({})).map(({ pseudonym }) => pseudonym);
  const details = await Promise.all(
    pseudonyms.map((pseudonym) => client().subjects.get.query({ pseudonym })),
  );
  trained = details.filter(({ images }) => images.train > 0).map(({ pseudonym }) => pseudonym);
  heldOut = details.find(({ images }) => images.test > 0)!.pseudonym;
  desk = await openDeskAt(browser, federation.sites[0]!.agent);
  desk.page.setDefaultTimeout(60_000);
  await desk.signIn();
}, 300_000);

// Pages of several windows on a busy machine take their time.
vi.setConfig({ testTimeout: 180_000 });

afterEach(() => {
  expect(desk.watch.foreignRequests, 'nothing is asked of any other origin').toEqual([]);
  expect(desk.watch.complaints, 'the page has nothing to complain of').toEqual([]);
});

afterAll(async () => {
  await browser?.close();
  await federation?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function openSubject(pseudonym: string, at = desk): Promise<void> {
  await at.goTo('Images and consent');
  await at.page.getByLabel('Search subjects').fill(pseudonym);
  await at.page.getByRole('link', { name: pseudonym, exact: true }).click();
  await at.heading(pseudonym).waitFor();
}

const dialog = () => desk.page.getByRole('dialog');
const stateOf = (name: string) =>
  desk.page.getByRole('table', { name: 'Consent by purpose' }).getByRole('row').filter({ hasText: name });
const confirm = (name: string) => dialog().getByRole('button', { name }).click();

test('the face crops are shown as pictures, two pixels of which are those of the stored crop', async () => {
  await openSubject(trained[0]!);
  const pictures = desk.region('Images').getByRole('img');
  await pictures.first().waitFor();
  await expect.poll(() => pictures.count()).toBe(2);
  const shown = await pictures.first().evaluate((image: HTMLImageElement) => ({
    width: image.naturalWidth,
    address: image.src,
  }));
  expect(shown.width).toBe(150);
  const { rows } = await client().subjects.images.query({ pseudonym: trained[0]! });
  expect(shown.address).toBe(rows[0]!.picture);
});

test('a consent is renewed and shortened, and its last day reads as it was meant', async () => {
  await desk.button(`Change the consent to ${purpose}`).click();
  await desk.page.getByRole('menuitem', { name: 'Renew…' }).click();
  await confirm('Renew consent');
  await dialog().getByText('Give the version that is printed on the signed form.').waitFor();
  await dialog().getByLabel('Version of the consent form').fill('v3');
  await dialog().getByLabel('Valid from').fill('2026-01-01');
  await dialog().getByLabel('Last day').fill('2031-12-31');
  await dialog().getByRole('button', { name: 'Who signed' }).click();
  await dialog().getByLabel('Given by').selectOption('guardian');
  await confirm('Renew consent');
  await stateOf(purpose).getByText('Dec 31, 2031').waitFor();

  await desk.button(`Change the consent to ${purpose}`).click();
  await desk.page.getByRole('menuitem', { name: 'Shorten…' }).click();
  expect(await dialog().getByLabel('Version of the consent form').inputValue()).toBe('v3');
  await confirm('Shorten consent');
  await dialog().getByText('Choose the last day.').waitFor();
  await dialog().getByLabel('Last day').fill('2029-12-31');
  await confirm('Shorten consent');
  await stateOf(purpose).getByText('Dec 31, 2029').waitFor();

  const history = desk.region('History of the consent');
  await history.getByText(`Shortened: ${purpose}`).first().waitFor();
  await history.getByText(/given by a parent or guardian/).waitFor();
});

test('whoever reads it elsewhere and in another language sees the same day', async () => {
  for (const [locale, day] of [
    ['de-DE', '31. Dez. 2029'],
    ['en-US', 'Dec 31, 2029'],
  ] as const) {
    const other = await openDeskAt(browser, federation.sites[0]!.agent, 'light', {
      ...{ locale, timezoneId: locale === 'de-DE' ? 'Pacific/Kiritimati' : 'Pacific/Pago_Pago' },
    });
    other.page.setDefaultTimeout(60_000);
    await other.signIn();
    await openSubject(trained[0]!, other);
    await other.page.getByRole('table', { name: 'Consent by purpose' }).getByText(day).waitFor();
    await other.page.close();
  }
});

test('purposes stand for themselves: another is added, is over and begins again later, and one is withdrawn', async () => {
  await desk.button('Another purpose…').click();
  await dialog().getByLabel('Purpose').fill('teaching');
  await dialog().getByLabel('Version of the consent form').fill('t1');
  await dialog().getByLabel('Valid from').fill('2026-01-01');
  await dialog().getByLabel('Last day').fill('2026-02-28');
  await confirm('Record consent');
  await stateOf('teaching').getByText('Expired').waitFor();

  await desk.button('Renew: teaching').click();
  await dialog().getByLabel('Version of the consent form').fill('t2');
  await dialog().getByLabel('Valid from').fill('2040-01-01');
  await confirm('Renew consent');
  await stateOf('teaching').getByText('Next: from Jan 1, 2040, no end date').waitFor();
  await stateOf('teaching').getByText('Feb 28, 2026').waitFor();

  await desk.button(`Change the consent to ${purpose}`).click();
  await desk.page.getByRole('menuitem', { name: 'Withdraw…' }).click();
  await dialog().getByText('Training that is using them stops').waitFor();
  await confirm('Withdraw consent');
  await stateOf(purpose).getByText('Withdrawn', { exact: true }).waitFor();
  await stateOf('teaching').getByText('Expired').waitFor();
});

test('a new consent of somebody who has withdrawn says so, and is prefilled with nothing', async () => {
  await desk.button(`New consent: ${purpose}`).click();
  await dialog().getByText('This person has withdrawn').waitFor();
  await dialog()
    .getByText(/was withdrawn on .*recorded by /)
    .waitFor();
  for (const field of ['Version of the consent form', 'Given on', 'Last day'])
    expect(await dialog().getByLabel(field).inputValue()).toBe('');
  await confirm('Record new consent');
  await dialog().getByText('Choose the day from which the consent holds.').waitFor();

  desk.watch.expectedStatuses.add(400);
  await dialog().getByLabel('Version of the consent form').fill('v4');
  await dialog().getByLabel('Given on').fill('2026-01-01');
  await confirm('Record new consent');
  await dialog()
    .getByText(/a consent that was given before does not count any more/)
    .waitFor();
  const today = (await client().consent.time.query()).now.slice(0, 10);
  await dialog().getByLabel('Given on').fill(today);
  await confirm('Record new consent');
  await stateOf(purpose).getByText('Active').waitFor();
  await desk.region('History of the consent').getByText(`Consent given again: ${purpose}`).waitFor();
});

test('a scan is attached, shown, saved as it was, and taken away', async () => {
  const png = path.join(folder, 'anna-miller.png');
  await sharp({ create: { width: 300, height: 400, channels: 3, background: '#eeeeee' } })
    .png()
    .toFile(png);
  const word = path.join(folder, 'form.pdf');
  await writeFile(word, 'PK not a PDF');

  const attach = desk.button(`Attach a scan: Consent given again, ${purpose}`);
  await attach.click();
  await dialog().getByLabel('File').fill(word);
  await confirm('Attach');
  await dialog().getByText('The scan is neither a PDF nor a JPEG or PNG image.').waitFor();
  await dialog().getByLabel('File').fill(png);
  await confirm('Attach');

  await desk.button(/Scan of the form \(PNG/).click();
  const picture = dialog().getByRole('img', { name: 'Scan of the consent form' });
  await picture.waitFor();
  expect(await picture.evaluate((image: HTMLImageElement) => image.naturalHeight)).toBe(400);
  const [download] = await Promise.all([
    desk.page.waitForEvent('download'),
    dialog().getByRole('button', { name: 'Save a copy' }).click(),
  ]);
  expect(download.suggestedFilename()).toMatch(/^consent-form-\d+\.png$/);
  expect(await readFile(await download.path())).toEqual(await readFile(png));

  const trail = JSON.stringify(await client().audit.query());
  expect(trail).toContain('consent.document-added');
  expect(trail).not.toContain('anna-miller');

  await dialog().getByRole('button', { name: 'Wrong scan…' }).click();
  await dialog().getByRole('button', { name: 'Take it away' }).click();
  await desk.button(/Scan of the form/).waitFor({ state: 'detached' });
});

test('a label is corrected with a reason; what may be a mistake is asked about first', async () => {
  const labels = (await client().subjects.get.query({ pseudonym: trained[0]! })).labels;
  const before = (await client().site.subjects.query({ search: trained[0]! }))[0]!.labels[0]!;
  const right = labels.find((label) => label !== before)!;
  await desk.region('Images').getByRole('checkbox').first().check();
  await desk.button('Correct 1 image…').click();
  await confirm('Correct');
  await dialog().getByText('Give the label that is right.').waitFor();
  await dialog().getByLabel('Right label').fill('no-such-label');
  await desk.page.keyboard.press('Escape');
  await dialog().getByLabel('Why').selectOption('new-finding');
  await confirm('Correct');
  await dialog().getByText('No image has the label "no-such-label" yet.').waitFor();
  expect(await dialog().getByRole('button', { name: 'Correct' }).isDisabled()).toBe(true);

  await dialog().getByLabel('Right label').fill(right);
  await desk.page.keyboard.press('Escape');
  await dialog().getByText('No image has the label').waitFor({ state: 'detached' });
  await confirm('Correct');
  const row = desk.page.getByRole('table', { name: 'Corrections' }).getByRole('row').nth(1);
  await row.getByText(`1 image: label ${before} → ${right}`).waitFor();
  await row.getByText('There is a new finding').waitFor();
});

test('images go to the right person, who is on the other side, after a question', async () => {
  await desk.button('Correct…').click();
  await dialog().getByLabel('The person').check();
  await dialog().getByLabel('Pseudonym of the right subject').fill(heldOut);
  await desk.page.keyboard.press('Escape');
  await confirm('Correct');
  await dialog()
    .getByRole('checkbox', { name: /would change sides/ })
    .check();
  await confirm('Correct');
  await desk.page.getByText('No images', { exact: true }).first().waitFor();

  await openSubject(heldOut);
  await desk.page.getByText('4 images held out for checking').waitFor();
  const trail = (await client().audit.query()).rows.filter(({ action }) => action === 'image.corrected');
  expect(trail).toHaveLength(2);
  for (const pseudonym of [trained[0]!, heldOut]) expect(JSON.stringify(trail)).not.toContain(pseudonym);
});

test('the list finds by state and by end, and the keyboard reaches the page', async () => {
  const soon = trained[1]!;
  const end = new Date(Date.now() + 20 * 86_400_000).toISOString().slice(0, 10);
  await client().consent.record.mutate({
    ...{ pseudonym: soon, purpose, documentVersion: 'v3', validFrom: '2026-01-01', expiresAt: end },
  });
  await desk.goTo('Images and consent');
  await desk.page.getByText('Consents of 1 subject end within 60 days.').waitFor();
  await desk.button('Show them').click();
  const rows = desk.page.getByRole('table', { name: 'Subjects' }).getByRole('row');
  await expect.poll(() => rows.count(), { timeout: 20_000 }).toBe(2);
  await rows.nth(1).getByText('Ends soon').waitFor();
  await rows.nth(1).getByRole('link').focus();
  await desk.page.keyboard.press('Enter');
  await desk.heading(soon).waitFor();
});

async function saved(click: () => Promise<void>): Promise<Buffer> {
  const [download] = await Promise.all([desk.page.waitForEvent('download'), click()]);
  return readFile(await download.path());
}

test('the report for the person is saved as PDF and as JSON', async () => {
  const choose = async (item: string) => {
    await desk.button('Report').click();
    await desk.page.getByRole('menuitem', { name: item }).click();
  };
  const pdf = await saved(() => choose('For the person (PDF)'));
  expect(pdf.subarray(0, 5).toString()).toBe('%PDF-');
  const report = JSON.parse((await saved(() => choose('For a program (JSON)'))).toString('utf8'));
  expect(JSON.stringify(report)).toContain(trained[1]!);
});

test('a subject is erased once its pseudonym was typed, and a certificate is there', async () => {
  const erased = trained[1]!;
  await desk.button('Erase…').click();
  await dialog().getByText('the photographs in the folder that they were imported from').waitFor();
  await dialog().getByText('this subject was in none').waitFor();
  const erase = dialog().getByRole('button', { name: 'Erase' });
  await dialog().getByLabel('Type the pseudonym to confirm').fill(trained[2]!);
  expect(await erase.isDisabled()).toBe(true);
  await dialog().getByLabel('Type the pseudonym to confirm').fill(erased);
  desk.watch.expectedStatuses.add(404);
  await erase.click();
  await dialog().getByText(`${erased} is erased.`).waitFor({ timeout: 60_000 });
  const certificate = await saved(() =>
    dialog().getByRole('button', { name: 'Save the certificate' }).click(),
  );
  expect(certificate.subarray(0, 5).toString()).toBe('%PDF-');
  // However slowly the list is answered, it never shows who was there before.
  await desk.page.route(/site\.subjects/, async (route) => {
    await setTimeout(500);
    await route.continue();
  });
  await dialog().getByRole('button', { name: 'Back to the list' }).click();
  await desk.page.getByRole('table', { name: 'Subjects' }).waitFor();
  await desk.page.unrouteAll({ behavior: 'wait' });
  expect(await desk.page.getByRole('link', { name: erased, exact: true }).count()).toBe(0);
  const trail = await client().audit.query();
  expect(trail.intact).toBe(true);
  expect(JSON.stringify(trail)).not.toContain(erased);
});

test('a narrow window shows all of it without scrolling sideways, and an address that names nobody says so', async () => {
  await desk.page.setViewportSize({ width: 760, height: 800 });
  const overflow = () =>
    desk.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await desk.page.setViewportSize({ width: 1280, height: 800 });

  await desk.page.goto(`${desk.agent.url}#/dataset/subject/_w`);
  await desk.heading('No subject').waitFor();
  desk.watch.expectedStatuses.add(404);
  await desk.page.goto(`${desk.agent.url}#/dataset/subject/UDk5OTk`);
  await desk.page.getByText('There is no subject "P9999".').waitFor();
});
