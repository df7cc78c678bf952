/**
 * Plain browser mode, with nothing standing in for anything: two agents as processes, their screens in a real
 * browser, a run over MQTT. The tests are one story and build on each other.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { type DemoSite, demoLabels, generateDemoFaces } from '../../core/data/demo-faces.ts';
import { freePort } from '../contract/test-brokers.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDesk } from '../fixtures/desk.ts';

const subjects = 24;
const rounds = 3;
const runTimeoutMs = 90_000;

let folder: string;
let browser: Browser;
let images: DemoSite;
let coordinator: Desk;
let site: Desk;
let invitation: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-serve-'));
  await ensureBuilt();
  browser = await launchBrowser();
  const [faces, first, second] = await Promise.all([
    generateDemoFaces({
      outFolder: join(folder, 'images'),
      sites: 1,
      seed: 3,
      subjectsPerSite: subjects,
      imagesPerSubject: 2,
      withdrawnPerSite: 1,
    }),
    openDesk(browser, join(folder, 'coordinator')),
    openDesk(browser, join(folder, 'site')),
  ]);
  images = faces[0]!;
  coordinator = first;
  site = second;
}, 120_000);

afterEach(() => {
  for (const { watch } of [coordinator, site]) {
    expect(watch.foreignRequests, 'nothing is asked of any other origin').toEqual([]);
    expect(watch.complaints, 'the page has nothing to complain of').toEqual([]);
  }
});

afterAll(async () => {
  await browser?.close();
  await Promise.all([coordinator?.agent.stop(), site?.agent.stop()]);
  await rm(folder, { recursive: true, force: true });
});

test('the access code that the agent printed opens its screens, any other does not', async () => {
  await coordinator.signIn('WRONG-WRONG');
  await coordinator.page.getByRole('alert').getByText('That is not the access code.').waitFor();

  await Promise.all([coordinator.signIn(), site.signIn()]);

  for (const desk of [coordinator, site]) {
    await desk.heading('Welcome to Anneal').waitFor();
    expect(desk.page.url()).not.toContain(desk.agent.accessCode!);
    desk.watch.expectedStatuses.clear();
  }
});

test('one installation becomes the coordinator and invites a site', async () => {
  const { page, button, field, heading } = coordinator;
  await button(/The coordinator/).click();
  await field('Name of the federation').fill('Nordic Faces');
  await field('Address of this machine').fill('127.0.0.1');
  await field('Port for the sites').fill(String(await freePort()));
  await button('Start federation').click();
  await heading('Nordic Faces').waitFor();

  await button('Invite a site').first().click();
  await field('Name of the site').fill('Clinic East');
  await button('Make invitation').click();
  invitation = (await field('Invitation').textContent()) ?? '';
  await button('Done').click();

  expect(invitation).toMatch(/^anneal-invitation-1\./);
  await page.getByText('Clinic East').waitFor();
});

test('the other joins with the invitation, and the coordinator sees it come online', async () => {
  await site.button(/A hospital site/).click();
  await site.field('Invitation').fill(invitation);
  await site.button('Join').click();

  await site.page.getByText('Member of Nordic Faces').waitFor();
  await site.heading('Connected, but without images').waitFor();
  await coordinator.page.getByText('1 of 1 online').waitFor();
});

test('the site adds its images and sees whose consent is active', async () => {
  const { page, button, field, goTo } = site;
  await page.getByRole('link', { name: 'Add images' }).click();
  await field('Folder of photographs').fill(images.imagesFolder);
  await field('Table (CSV or Excel)').fill(images.labelsFile);
  await page.getByLabel('The images are already cropped to one face').check();
  await button('Preview').click();
  await page.getByRole('img', { name: /^Line 2: / }).waitFor();
  await button('Add images').click();
  await page.getByText(`${subjects * 2} images added.`).waitFor();

  await goTo('Images and consent');
  await page.getByText(`${subjects} subjects`, { exact: true }).waitFor();
  const list = page.getByRole('table', { name: 'Subjects' });
  await expect.poll(() => list.getByText('Active').count()).toBe(subjects - 1);
  await expect.poll(() => list.getByText('Withdrawn').count()).toBe(1);
});

test('a site that pauses says so, and takes part again', async () => {
  const { button, heading, goTo } = site;
  await goTo('Overview');
  await button('Pause').click();
  await heading('Paused').waitFor();

  await button('Resume').click();
  await heading('Ready and waiting').waitFor();
});

test('the policy of the site refuses a plan for a single site, until people there change it', async () => {
  const { page, button } = coordinator;
  const plan = coordinator.region('Plan a run');
  await plan.getByText(/asks for at least 3 contributing sites; this run is content with 1/).waitFor();
  await plan.getByText('Only 0 of 1 site would take part, and a round needs 1.').waitFor();
  expect(await button('Start the run').isDisabled()).toBe(true);

  await site.goTo('Policy');
  await site.page.getByText('Version 1: the defaults of Anneal').waitFor();
  await site.field('Contributing sites').fill('1');
  await site.button('Save policy').click();
  await site.page.getByRole('dialog').getByText('Contributing sites: 3 → 1').waitFor();
  await site.button('Save it').click();
  await site.page.getByText(`Version 2, set by ${userInfo().username}`).waitFor();

  await plan.getByText('Allows it').waitFor();
  await page.getByText('Each site sees what would leave it').waitFor();
});

test('a short run is planned on the sliders and asks the site with a letter', async () => {
  const { page, button, heading, field } = coordinator;
  await field('Title').fill('Faces of the north');
  await field('Note').fill('Call us with any question.');
  const labels = page.getByLabel('Class labels').first();
  for (const label of demoLabels) {
    await labels.fill(label);
    await labels.press('Enter');
  }
  await page.getByRole('slider', { name: 'Rounds', exact: true }).press('Home');
  for (let more = 1; more < rounds; more++) {
    await page.getByRole('slider', { name: 'Rounds', exact: true }).press('ArrowRight');
  }
  // Eight steps at least, from so few images.
  await button('Advanced settings').click();
  await field('Images per step').fill('4');
  await page.getByText(`to 2 in round ${rounds}.`).waitFor({ state: 'attached' });
  await button('Start the run').click();
  await heading(/Run waiting for sites|Round 1 of 3/).waitFor();

  await site.goTo('Overview');
  const letter = site.region('Your approval is needed');
  await letter.getByRole('heading', { name: 'Faces of the north' }).waitFor();
  await letter.getByText('Call us with any question.').waitFor();
  await letter.getByText(/^\d+ of your \d+ training images and \d+ of your \d+ subjects$/).waitFor();
  await letter.getByText('built into Anneal').waitFor();
  await letter.getByText('16 → 2').waitFor();
  const leaves = letter.getByRole('region', { name: 'What leaves this site' }).getByRole('listitem');
  await expect.poll(() => leaves.count()).toBeGreaterThan(2);
});

test('declined, the coordinator reads the reason', async () => {
  await site.button('Decline with a reason…').click();
  await site.field('Reason').fill('We have to ask our board first.');
  await site.button('Decline the run').click();
  await site.heading('You declined this run').waitFor();

  await coordinator.page.getByRole('link', { name: 'Watch it live' }).click();
  await coordinator.page.getByText('The site declined this run: We have to ask our board first.').waitFor();
});

test('a run that is paused says so, and goes on when somebody resumes it', async () => {
  const { page, button } = coordinator;
  await button('Pause').click();
  await page.getByText('This run was paused by hand').waitFor();

  await button('Resume').click();

  await page.getByText('This run was paused by hand').waitFor({ state: 'detached' });
  await button('Pause').waitFor();
});

test('approved within limits after all, the site trains; both screens follow it to the end', async () => {
  const { page } = coordinator;
  await site.page.getByRole('link', { name: 'Read the letter again' }).click();
  await site.button('Approve within limits…').click();
  const dialog = site.page.getByRole('dialog');
  await dialog.getByRole('textbox', { name: 'Rounds' }).fill(String(2 * rounds));
  await dialog.getByRole('button', { name: 'Approve within these limits' }).click();
  await dialog.waitFor({ state: 'detached' });
  await site.goTo('Overview');

  await Promise.all([
    site.heading('Training on this site’s images').waitFor(),
    site.page.getByText(/^Step: \d+ of \d+$/).waitFor(),
    page.getByRole('progressbar', { name: 'Steps of Clinic East' }).waitFor(),
  ]);
  await page.getByText('Finished', { exact: true }).waitFor({ timeout: runTimeoutMs });

  const table = page.getByRole('table', { name: 'Rounds' }).getByRole('row');
  await expect.poll(() => table.count()).toBe(1 + rounds);
  await expect.poll(() => table.filter({ hasText: 'Done' }).count()).toBe(rounds);
  await page.getByText(`${rounds} of ${rounds}`, { exact: true }).waitFor();
  // Its shape, not its visibility: equal accuracies make a line without height.
  const line = page.getByRole('figure', { name: 'Federated accuracy' }).locator('path.recharts-curve');
  await expect.poll(() => line.getAttribute('d')).toMatch(new RegExp(`^M[^L]+(L[^L]+){${rounds - 1}}$`));
  await page.getByText(`${rounds} rounds of ${rounds} done.`).waitFor({ state: 'attached' });
  await site.region('Training run').getByText('Finished').waitFor();
}, 120_000);

test('the site keeps what was decided, and takes its limits back', async () => {
  const { page, goTo } = site;
  await goTo('Requests');
  const rows = page.getByRole('table', { name: 'Decisions' }).getByRole('row');
  await rows.filter({ hasText: 'We have to ask our board first.' }).waitFor();
  const granted = rows.filter({ hasText: `1 of 2 runs used` }).filter({ hasText: `${2 * rounds} rounds` });
  await granted.getByRole('button', { name: 'Take back…' }).click();
  await site.button('Take it back').click();
  await rows.filter({ hasText: 'Taken back on' }).waitFor();
});

test('the shared adapters are listed, one for the start and one a round', async () => {
  await coordinator.goTo('Adapters');
  const shared = coordinator.page.getByRole('row').filter({ hasText: 'Shared' });

  await expect.poll(() => shared.count()).toBe(1 + rounds);
});

test('a subject can be followed into the run, and its consent withdrawn', async () => {
  const { page, button, goTo } = site;
  const { trained, pseudonym } = await oneTrainedSubject();
  expect(trained).toEqual([0, 1, 2]);
  await goTo('Images and consent');
  await button(`Which runs is ${pseudonym} in?`).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('1–3', { exact: true }).waitFor();
  await page.keyboard.press('Escape');

  await button(`Withdraw the consent of ${pseudonym}`).click();
  await dialog.getByText('Adapters that were merged earlier stay as they are.').waitFor();
  await dialog.getByRole('button', { name: 'Withdraw consent' }).click();

  const row = page.getByRole('row').filter({ hasText: pseudonym });
  await row.getByText('Withdrawn').waitFor();
  const list = page.getByRole('table', { name: 'Subjects' });
  await expect.poll(() => list.getByText('Active').count()).toBe(subjects - 2);
});

/** The first subject of the list that is not held out. */
async function oneTrainedSubject(): Promise<{ pseudonym: string; trained: number[] }> {
  for (const { pseudonym } of await site.agent.client.site.subjects.query()) {
    const { runs } = await site.agent.client.rights.trace.query({ pseudonym });
    if (runs[0] !== undefined && runs[0].rounds.length > 0) return { pseudonym, trained: runs[0].rounds };
  }
  throw new Error('no subject took part in the run');
}

test('a backup is made on the screen, verified, and listed; a file that is there is never replaced', async () => {
  const { page, button, field, goTo } = site;
  await goTo('Backups');
  await page.getByText('No backup yet').waitFor();
  await page.getByRole('textbox', { name: 'File' }).fill(join(folder, 'site.anneal'));
  await field('Passphrase').fill('lantern orchid gravel teapot');
  await field('The same once more').fill('lantern orchid gravel');
  await page.getByText('The two differ.').waitFor();
  expect(await button('Make the backup').isDisabled()).toBe(true);
  await field('The same once more').fill('lantern orchid gravel teapot');
  await button('Make the backup').click();

  await page.getByText(/^The backup is written and was read back: /).waitFor();
  const list = page.getByRole('table', { name: 'Backups so far' }).getByRole('row');
  await expect.poll(() => list.count()).toBe(2);
  expect(await field('Passphrase').inputValue(), 'nothing of it stays on the screen').toBe('');

  site.watch.expectedStatuses.add(409);
  await field('Passphrase').fill('lantern orchid gravel teapot');
  await field('The same once more').fill('lantern orchid gravel teapot');
  await button('Make the backup').click();
  await page.getByRole('alert').getByText('There is a file of that name already.').waitFor();
  await expect.poll(() => list.count()).toBe(2);
  site.watch.expectedStatuses.clear();
});

test('the audit trails of both are whole and tell what happened', async () => {
  await Promise.all([coordinator.goTo('Audit trail'), site.goTo('Audit trail')]);

  await coordinator.page.getByText('Chain intact').waitFor();
  await site.page.getByText('Chain intact').waitFor();
  const rows = site.page.getByRole('table', { name: 'Audit trail' }).getByRole('row');
  await rows
    .filter({ hasText: /withdrawn/i })
    .first()
    .waitFor();
});
