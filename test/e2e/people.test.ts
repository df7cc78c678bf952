/** Users in a real browser before a real agent: the first one, roles, lock, sign-out, and another person. One story. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { freePort } from '../contract/test-brokers.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDesk } from '../fixtures/desk.ts';
import { goodPassword as password } from '../fixtures/people.ts';

/** Pictures of the screens, for whoever wants to look at them. */
const pictures = process.env['ANNEAL_PICTURES'];

let folder: string;
let browser: Browser;
let desk: Desk;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-people-'));
  await ensureBuilt();
  browser = await launchBrowser();
  desk = await openDesk(browser, join(folder, 'coordinator'));
  // What is asked between sign-out and sign-in is refused.
  desk.watch.expectedStatuses.add(403);
}, 120_000);

afterEach(() => {
  expect(desk.watch.foreignRequests, 'nothing is asked of any other origin').toEqual([]);
  expect(desk.watch.complaints, 'the page has nothing to complain of').toEqual([]);
});

afterAll(async () => {
  await browser?.close();
  await desk?.agent.stop();
  await rm(folder, { recursive: true, force: true });
});

async function picture(name: string): Promise<void> {
  if (pictures !== undefined) await desk.page.screenshot({ path: join(pictures, `${name}.png`) });
}

const secret = (label: string) => desk.page.getByLabel(label, { exact: true });
const menuOf = (person: string) => desk.button(`Signed in as ${person}`);
const menuItem = (name: string) => desk.page.getByRole('menuitem', { name });

async function signIn(name: string, given: string): Promise<void> {
  await desk.field('Name').fill(name);
  await secret('Password').fill(given);
  await desk.page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

async function choosePassword(oneTime: string): Promise<void> {
  await desk.heading('Choose a password').waitFor();
  await secret('Present password').fill(oneTime);
  await secret('New password').fill(password);
  await secret('New password again').fill(password);
  await picture('choose-password');
  await desk.button('Use this password').click();
}

/** Adds a user on the screen and gives the one-time password. */
async function addUser(person: string, name: string, roles: string[]): Promise<string> {
  const { page, button, field } = desk;
  await button('Add a user').click();
  await field('Name of the person').fill(person);
  await field('Account name').fill(name);
  for (const role of roles) await page.getByRole('checkbox', { name: role }).check();
  await picture(`add-${name}`);
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  const shown = page.getByRole('textbox', { name: 'One-time password' });
  await shown.waitFor();
  await picture(`handed-out-${name}`);
  const text = (await shown.textContent()) ?? '';
  await button('Done').click();
  return text.trim();
}

test('the first user is an administrator, and then everybody signs in by name', async () => {
  const { page, button, field, heading, goTo } = desk;
  await desk.signIn();
  await button(/The coordinator/).click();
  await field('Name of the federation').fill('Nordic Faces');
  await field('Address of this machine').fill('127.0.0.1');
  await field('Port for the sites').fill(String(await freePort()));
  await button('Start federation').click();
  await goTo('Users');
  await heading(/^Users$/).waitFor();
  await picture('no-users');
  const oneTime = await addUser('Anna Meier', 'anna.meier', ['Approver']);
  await page.reload();
  await heading(/^Users$/).waitFor();
  await button(/Signed in as .* \(access code\)/).click();
  await menuItem('Sign in by name…').click();
  await heading(/^Sign in$/).waitFor();
  await picture('sign-in');
  await signIn('anna.meier', 'wrong password');
  await page.getByText('The name or the password is not right.').waitFor();
  await signIn('anna.meier', oneTime);
  await choosePassword(oneTime);

  await menuOf('Anna Meier').waitFor();
  await page.getByText('anna.meier · Approver, Administrator').waitFor();
});

test('a viewer sees everything, and which role a button takes', async () => {
  const { page, button, goTo, heading } = desk;
  await goTo('Users');
  const oneTime = await addUser('Berta Koch', 'berta.koch', ['Viewer']);
  await picture('users');
  await menuOf('Anna Meier').click();
  await picture('menu');
  await menuItem('Sign out').click();
  await heading(/^Sign in$/).waitFor();
  await signIn('berta.koch', oneTime);
  await choosePassword(oneTime);
  await menuOf('Berta Koch').waitFor();
  await goTo('Users');
  await page.getByRole('table', { name: 'Users' }).getByText('anna.meier').first().waitFor();
  await button('Add a user').hover();
  await page.getByText('Needs the role “Administrator”; ask an administrator.').first().waitFor();
  await picture('viewer');
  await button('Add a user').press('Enter');
  const isRefused = async (name: string) => (await button(name).getAttribute('aria-disabled')) === 'true';
  const menu = await isRefused('Change anna.meier');
  await goTo('Audit trail');
  const evidence = await isRefused('Export evidence…');

  expect(await page.getByRole('dialog').count()).toBe(0);
  expect([menu, evidence]).toEqual([true, true]);
});

test('a locked session opens with its person’s password, and shows nothing meanwhile', async () => {
  const { page, button, heading } = desk;
  await menuOf('Berta Koch').click();
  await menuItem('Lock').click();
  await heading('Locked').waitFor();
  await picture('locked');
  await page.reload();
  await heading('Locked').waitFor();
  expect(await page.getByText('anna.meier').count()).toBe(0);
  await secret('Password').fill('not this one');
  await button('Unlock').click();
  await page.getByText('The name or the password is not right.').waitFor();
  await secret('Password').fill(password);
  await button('Unlock').click();
  await menuOf('Berta Koch').waitFor();
});

test('another person signs in instead, deactivates the first one, and the audit trail names both', async () => {
  const { page, button, heading, goTo } = desk;
  await menuOf('Berta Koch').click();
  await menuItem('Lock').click();
  await button('Somebody else signs in').click();
  await signIn('anna.meier', password);
  await menuOf('Anna Meier').waitFor();
  await goTo('Users');
  await button('Change berta.koch').click();
  await menuItem('Deactivate…').click();
  await page.getByRole('button', { name: 'Deactivate', exact: true }).click();
  await page.getByText('Deactivated').waitFor();
  await goTo('Audit trail');
  await heading('Audit trail').waitFor();
  const rows = page.getByRole('table', { name: 'Audit trail' });
  await rows.getByText('User deactivated').waitFor();
  await picture('audit');

  expect(
    await rows.getByRole('row').filter({ hasText: 'Signed in' }).filter({ hasText: 'berta.koch' }).count(),
  ).toBe(1);
});
