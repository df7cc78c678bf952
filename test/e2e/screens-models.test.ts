/** Base models in a real browser before a real agent: look at a file, answer only what it does not say, import, cancel, remove. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, Locator } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { freePort } from '../contract/test-brokers.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDesk } from '../fixtures/desk.ts';
import { type MobileFaceNetOptions, randomMobileFaceNet } from '../fixtures/mobile-face-net.ts';
import { temporaryFolder } from '../fixtures/onnx-files.ts';

/** Pictures of the screens, for whoever wants to look at them. */
const pictures = process.env['ANNEAL_PICTURES'];

let folder: string;
let browser: Browser;
let desk: Desk;

beforeAll(async () => {
  folder = await temporaryFolder();
  if (pictures !== undefined) await mkdir(pictures, { recursive: true });
  await ensureBuilt();
  browser = await launchBrowser();
  desk = await openDesk(browser, join(folder, 'coordinator'));
  for (const status of [400, 404, 409, 422]) desk.watch.expectedStatuses.add(status);
  await desk.signIn();
}, 180_000);

afterEach(() => {
  expect(desk.watch.foreignRequests, 'nothing is asked of any other origin').toEqual([]);
  expect(desk.watch.complaints, 'the page has nothing to complain of').toEqual([]);
});

afterAll(async () => {
  await browser?.close();
  await desk?.agent.stop();
});

async function picture(name: string): Promise<void> {
  if (pictures !== undefined)
    await desk.page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

async function network(name: string, options: Partial<MobileFaceNetOptions> = {}): Promise<string> {
  const file = join(folder, `${name}.onnx`);
  await writeFile(file, randomMobileFaceNet({ seed: 7, ...options }));
  return file;
}

const models = () => join(folder, 'coordinator', 'models');
const exactly = (name: string) => desk.page.getByRole('button', { name, exact: true });
/** An import takes a leak test. */
const long = { timeout: 120_000 };

async function lookAt(file: string): Promise<Locator> {
  await desk.goTo('Models');
  await desk.button('Import a network…').click();
  await desk.heading('Import a network').waitFor();
  await desk.field('ONNX file').fill(file);
  await desk.button('Look at it').click();
  return desk.region('What Anneal found');
}

const back = () => desk.button('Back to the list').click();

test('the first-run screen leads to the networks and back', async () => {
  await desk.button('Use another network…').click();
  await desk.heading('Models').waitFor();
  await desk.region('face-resnet-128').getByText('Comes with Anneal').waitFor();
  await picture('first-run-models');
  await exactly('Back').click();
  await desk.heading('What is this installation for?').waitFor();
  await picture('first-run');
});

test('an ArcFace network that does not say its pixels: asked for that alone, nothing chosen before', async () => {
  const port = await freePort();
  await desk.agent.client.setup.coordinator.mutate({ federation: 'Rare Faces', port, hosts: ['127.0.0.1'] });
  await desk.goTo('Models');
  const found = await lookAt(await network('arcface'));
  await found.getByText('112 × 112 pixels').waitFor();
  await found.getByText(/ArcFace's five-point template\), assumed/).waitFor();
  await found.getByText('the file does not say', { exact: true }).waitFor();
  const recipe = found.getByLabel('How its pixels are normalised');
  await picture('asked');

  expect(await recipe.inputValue()).toBe('');
  expect(await found.getByRole('combobox').count()).toBe(1);
  expect(await exactly('Import').isDisabled()).toBe(true);
  await recipe.selectOption({ label: 'ArcFace, InsightFace: (pixel − 127.5) / 127.5' });
  await found.getByText('Identity').waitFor();
  expect(await found.getByLabel('Order of the colours').inputValue()).toBe('rgb');
  await found.getByText(/\(pixel of 0…1 − 0\.5\) \/ 0\.5, as given/).waitFor();
  await picture('answered');
  await exactly('Import').click();
  await desk.page.getByRole('progressbar', { name: 'Import of the network' }).waitFor();
  await picture('importing');

  const row = desk.region('arcface');
  await row.waitFor(long);
  await row.getByText(/assumed/).waitFor();
  await row.getByText('no run yet').waitFor();
  await picture('imported');
  expect(await readdir(join(models(), 'arcface'))).toContain('anneal-model.json');
});

test('a network that normalises its pixels itself is imported without a question', async () => {
  const found = await lookAt(await network('inside', { normalises: true }));
  await found.getByText(/inside the file: \(pixel of 0…255 − 127\.5\) \/ 128, recognised/).waitFor();
  await found.getByText('red, green, blue, assumed').waitFor();
  expect(await found.getByRole('combobox').count()).toBe(0);
  await picture('recognised');
  await exactly('Import').click();

  await desk.region('inside').waitFor(long);
});

test('numbers of one’s own: wrong ones are refused where they are typed', async () => {
  const found = await lookAt(await network('own'));
  await found.getByLabel('How its pixels are normalised').selectOption('own');
  await found.getByLabel('Mean').fill('0.4, 0.5');
  await found.getByText('One number, or three with commas between them.').waitFor();
  await found.getByLabel('Numbers are of pixels of').selectOption('1');
  await found.getByLabel('Mean').fill('0.4, 0.5, 0.6');
  await found.getByLabel('Standard deviation').fill('0');
  await found.getByText('Numbers above 0.').waitFor();
  await found.getByLabel('Standard deviation').fill('0.25');
  expect(await exactly('Import').isDisabled()).toBe(true);
  await found.getByLabel('Order of the colours').selectOption('bgr');

  await found.getByText(/− \[0\.4, 0\.5, 0\.6\]\) \/ 0\.25, as given/).waitFor();
  await found.getByText('blue, green, red, as given').waitFor();
  expect(await exactly('Import').isEnabled()).toBe(true);
  await picture('own-numbers');
  await back();
});

test('probabilities of classes are refused, and the value before them is accepted', async () => {
  const found = await lookAt(await network('classes', { fault: 'classifier', normalises: true }));
  const alert = found.getByRole('alert');
  await alert.getByText(/probabilities of classes/).waitFor();
  await picture('refused');
  expect(await exactly('Import').isDisabled()).toBe(true);

  await found.getByLabel('Value that is the embedding').fill('features');
  await alert.waitFor({ state: 'detached' });
  await found.getByText('64 numbers for a face').waitFor();
  expect(await exactly('Import').isEnabled()).toBe(true);
  await back();
});

test('the same embedding for every face: refused at the import, and nothing is left', async () => {
  const before = await readdir(models());
  await lookAt(await network('same', { fault: 'constant', normalises: true }));
  await exactly('Import').click();

  const alert = desk.page.getByRole('alert').first();
  await alert.getByText(/nearly the same embedding for every face/).waitFor(long);
  await picture('unsuitable');
  expect(await readdir(models())).toEqual(before);
  await back();
  // Whoever comes back later learns it, too.
  await desk.page
    .getByRole('alert')
    .getByText(/nearly the same embedding/)
    .waitFor();
});

test('a file that is not there, or that is no network, is explained in a sentence', async () => {
  await lookAt(join(folder, 'nowhere.onnx'));
  await desk.page
    .getByRole('alert')
    .getByText(/There is nothing at/)
    .waitFor();
  await back();
});

test('cancelled: nothing is left, and nothing is a failure', async () => {
  const before = await readdir(models());
  await lookAt(await network('stopped', { seed: 9, width: 64, normalises: true }));
  await exactly('Import').click();
  await desk.button('Cancel the import').click();

  await desk.page.getByRole('alert').getByText('The import was stopped; nothing was installed.').waitFor();
  await picture('cancelled');
  expect(await readdir(models())).toEqual(before);
  await back();
  await desk.region('arcface').waitFor();
  expect(await desk.page.getByRole('alert').count()).toBe(0);
});

test('the coordinator chooses the base of a run among them, and reads what sites need', async () => {
  await desk.agent.client.coordinator.invite.mutate({ siteName: 'Clinic' });
  await desk.goTo('Overview');
  const base = desk.page.getByLabel('Base model');
  expect(await base.inputValue()).toBe('face-resnet-128');
  await desk.page.getByText('every site has it').waitFor();
  await base.selectOption('arcface');

  await desk.page.getByText(/Each site imports the same file/).waitFor();
  await picture('plan');
  // What follows from the base follows: its layers.
  await expect
    .poll(() => desk.page.getByRole('alert').count(), { message: 'the plan is made for it' })
    .toBe(0);
  await desk.page.getByRole('link', { name: 'Use another network…' }).click();
  await desk.heading('Models').waitFor();
});

test('keyboard alone: import page, fields with labels, and a narrow window', async () => {
  const { page } = desk;
  await page.setViewportSize({ width: 760, height: 900 });
  await desk.button('Import a network…').focus();
  await page.keyboard.press('Enter');
  await desk.field('ONNX file').waitFor();
  await desk.field('ONNX file').focus();
  await page.keyboard.type(await network('keys'));
  await page.keyboard.press('Enter');
  const found = desk.region('What Anneal found');
  await found.getByLabel('How its pixels are normalised').focus();
  await page.keyboard.type('ImageNet');
  await found
    .getByText(/\[0\.485, 0\.456, 0\.406\]/)
    .first()
    .waitFor();
  await picture('narrow-import');
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  await back();
  await picture('narrow-list');

  expect(wide).toBeLessThanOrEqual(760);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(760);
  await page.setViewportSize({ width: 1280, height: 800 });
});

test('the folder of a vision transformer: its own files say what is done to pixels, and a person may say another', async () => {
  const { page } = desk;
  await desk.goTo('Models');
  await desk.button('Import a network…').click();
  await page.getByRole('radio', { name: /A folder with/ }).check();
  await desk.field('Folder').fill(fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url)));
  await desk.button('Look at it').click();
  const found = desk.region('What Anneal found');
  await found.getByText(/from the files of the folder/).waitFor();
  expect(await found.getByRole('combobox').count()).toBe(0);
  await desk.button('Name, licence and what was assumed').click();
  await found.getByLabel('How its pixels are normalised').selectOption('arcface-127.5');

  await found.getByText(/\(pixel of 0…1 − 0\.5\) \/ 0\.5, as given/).waitFor();
  expect(await found.getByRole('alert').count()).toBe(0);
  expect(await exactly('Import').isEnabled()).toBe(true);
});

test('removing asks first; what comes with Anneal has no such button', async () => {
  await desk.goTo('Models');
  await desk.region('face-resnet-128').waitFor();
  expect(await desk.button('Remove face-resnet-128').count()).toBe(0);
  await desk.button('Remove inside').click();
  const dialog = desk.page.getByRole('dialog');
  await dialog.getByText('Its files are deleted from this machine.').waitFor();
  await picture('remove');
  await dialog.getByRole('button', { name: 'Remove it' }).click();

  await desk.region('inside').waitFor({ state: 'detached' });
  expect(await readdir(models())).not.toContain('inside');
});

test('in the desktop app it is three clicks: import, choose, import', async () => {
  const { page } = desk;
  const file = await network('three-clicks', { seed: 11, normalises: true });
  await page.addInitScript((path) => {
    const chooseFile = async (filters: { extensions: string[] }[]) =>
      filters[0]?.extensions[0] === 'onnx' ? path : null;
    Object.assign(window, { anneal: { platform: 'linux', chooseFile } });
  }, file);
  await page.reload();
  await desk.button('Import a network…').click();
  await desk.button('Choose: ONNX file').click();
  await exactly('Import').click();

  await desk.region('three-clicks').waitFor(long);
});
