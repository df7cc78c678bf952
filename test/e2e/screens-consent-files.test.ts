/** Consents from a FHIR file and into one, in a real browser over a real site. The tests are one story. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDeskAt } from '../fixtures/desk.ts';
import { startFederation, type TestFederation } from '../fixtures/federation.ts';
import { broadConsent, bundleOf, collectingCode, trainingCode } from '../fixtures/fhir-consents.ts';

const system = 'https://hospital.example/pseudonym';
let folder: string;
let browser: Browser;
let federation: TestFederation;
let desk: Desk;
let pseudonyms: string[];

const client = () => federation.sites[0]!.agent.client;
const consentOf = (pseudonym: string, change: Record<string, unknown> = {}) =>
  broadConsent({
    ...{ id: undefined, identifier: [{ system: 'urn:test', value: pseudonym }] },
    patient: { identifier: { system, value: pseudonym }, display: 'A Name' },
    ...change,
  });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-consent-files-'));
  await ensureBuilt();
  browser = await launchBrowser();
  federation = await startFederation(1, { screens: true, approve: false });
  pseudonyms = (await client().site.subjects.query({})).map(({ pseudonym }) => pseudonym);
  desk = await openDeskAt(browser, federation.sites[0]!.agent);
  await desk.signIn();
  await desk.goTo('Images and consent');
  await desk.page.getByRole('tab', { name: 'Consent files' }).click();
}, 180_000);

afterEach(() => {
  expect(desk.watch.foreignRequests, 'nothing is asked of any other origin').toEqual([]);
  expect(desk.watch.complaints, 'the page has nothing to complain of').toEqual([]);
});

afterAll(async () => {
  await browser?.close();
  await federation?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const report = () => desk.region('Report on the consents');
const picture = async (name: string) => {
  const shots = process.env['ANNEAL_TEST_PICTURES'];
  if (shots !== undefined) await desk.page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
};

test('a file is looked at, a code is said to permit training, and the consents are recorded', async () => {
  const file = join(folder, 'consents.json');
  const refusal = { provision: { type: 'deny' }, dateTime: '2026-04-01' };
  const [first, second] = pseudonyms;
  const consents = [consentOf(first!), consentOf(second!, refusal), consentOf('stranger')];
  await writeFile(file, JSON.stringify(bundleOf(consents)));
  await desk.field('File of consents').fill(file);
  await desk.field('Identifier system of the pseudonyms').fill(system);
  expect(await desk.button('Record these consents').isDisabled()).toBe(true);

  await desk.button('Look at it').click();
  await report().getByText('Nothing is recorded yet.').waitFor();
  await report().getByText('No such subject here; none is made:').waitFor();
  await picture('consent-files-preview');
  await report().getByRole('listitem').filter({ hasText: trainingCode }).getByRole('button').click();
  await desk.page
    .getByText(`urn:oid:2.16.840.1.113883.3.1937.777.24.5.3|${trainingCode}: federated-training`)
    .waitFor();
  await desk.button('Look at it').click();
  await report().getByText(collectingCode).waitFor();
  expect(await client().consentFiles.fhirOptions.query()).toMatchObject({ identifierSystem: null });

  await desk.button('Record these consents').click();
  await report().getByText('The consents are recorded.').waitFor();
  await picture('consent-files-recorded');
  expect(await client().consentFiles.fhirOptions.query()).toMatchObject({
    identifierSystem: system,
    purposes: [{ code: trainingCode, purpose: 'federated-training' }],
  });
  await report().getByText('Withdrawn or ended:').waitFor();
});

test('problems are listed all at once', async () => {
  const file = join(folder, 'broken.json');
  const [first] = pseudonyms;
  await writeFile(
    file,
    JSON.stringify(bundleOf([consentOf(first!, { status: 'x' }), consentOf(first!, { scope: undefined })])),
  );
  await desk.field('File of consents').fill(file);
  await desk.button('Look at it').click();
  await report().getByText('2 problems in this file.').waitFor();
  await expect
    .poll(() => report().getByRole('list', { name: 'Problems' }).getByRole('listitem').count())
    .toBe(2);
  await picture('consent-files-problems');
});

test('a table of withdrawals is looked at and recorded', async () => {
  const file = join(folder, 'withdrawals.csv');
  await writeFile(file, `subject,consent\n${pseudonyms[2]},withdrawn\nnobody,withdrawn\n`);
  await desk.field('File of consents').fill(file);
  await desk.button('Look at it').click();
  await report().getByText('Nothing is recorded yet.').waitFor();
  await report().getByText('No such subject here; none is made:').waitFor();
  await picture('consent-files-table');

  await desk.button('Record these consents').click();
  await report().getByText('Withdrawn:').waitFor();
  const rows = await client().site.subjects.query({ search: pseudonyms[2]! });
  expect(JSON.stringify(rows)).toContain('withdrawn');
});

test('the consents are exported, and no file is replaced unasked', async () => {
  const file = join(folder, 'out.json');
  await desk.field('File to write').fill(file);
  await desk.button('Export consents').click();
  await desk.page.getByText(/consents of .* written\./).waitFor();
  const text = await readFile(file, 'utf8');
  expect(text).toContain(trainingCode);
  expect(text).not.toContain('A Name');

  desk.watch.expectedStatuses.add(409);
  await desk.button('Export consents').click();
  await desk.page.getByRole('alert').getByText('There is a file of that name already.').waitFor();
  expect(await readFile(file, 'utf8')).toBe(text);
});
