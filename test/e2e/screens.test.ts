/**
 * The built screens in a real browser. The agent is a stand-in, for states that a real federation takes
 * minutes to reach; the same screens over a real agent are tested with the agent.
 */
import { expect, test } from 'vitest';
import { button, field, heading, open, page, standIn } from '../fixtures/screens-stand-in/screens-page.ts';

test('a browser must give the access code first', async () => {
  await open('site', '/', { accessCode: 'ABCDE-FGHJK', expected: 401 });
  await heading('Access code').waitFor();

  await field('Code').fill('WRONG-WRONG');
  await button('Continue').click();
  await page.getByRole('alert').getByText('That is not the access code.').waitFor();

  await field('Code').fill('ABCDE-FGHJK');
  await button('Continue').click();
  await heading('Training on this site’s images').waitFor();
  expect(page.url()).not.toContain('ABCDE');
});

test('first run: a wrong invitation is explained, a right one makes this a site', async () => {
  await open('unset', '/', { expected: 400 });
  await button(/A hospital site/).click();

  await button('Join').click();
  await page.getByText('Paste the invitation, or open the file that you received.').waitFor();

  await page.getByLabel('Invitation').fill('good morning');
  await button('Join').click();
  const alert = page.getByRole('alert');
  await alert.getByText('This text is not an invitation of Anneal.').waitFor();
  expect(await alert.textContent()).toContain('Ask the coordinator for a new invitation');

  const file = { name: 'invitation.txt', mimeType: 'text/plain', buffer: Buffer.from('anneal1:abcdef\n') };
  await page.locator('input[type=file]').setInputFiles(file);
  await page.getByLabel('Name of this site').fill('Clinic South');
  await button('Join').click();
  await heading('Overview').waitFor();
  await page.getByText('Clinic South').waitFor();
});

test('first run: a coordinator with a port in use, then without', async () => {
  await open('unset', '/', { expected: 400 });
  await button(/The coordinator/).click();
  await page.getByLabel('Name of the federation').fill('Nordic Faces');
  await page.getByLabel('Port for the sites').fill('1883');
  await button('Start federation').click();
  await page.getByText('Another program is using port 1883.').waitFor();

  await page.getByLabel('Port for the sites').fill('8884');
  await button('Start federation').click();
  await heading('Nordic Faces').waitFor();
  await heading('No site has joined yet').waitFor();
  expect(await button('Start the run').isDisabled()).toBe(true);
});

test('the demo has screens of its own, which are named with their code', async () => {
  await open('unset', '/');
  await button(/Try the demo/).click();
  const demo = page.getByRole('region', { name: 'Demo' });
  await demo.getByText('QWERT-ASDFG').waitFor();
  expect(await demo.getByRole('link', { name: 'Open its screens' }).getAttribute('href')).toBe(
    'http://127.0.0.1:9/',
  );
  expect(await button(/Try the demo/).count()).toBe(0);

  Object.assign(standIn.state.status.demo!, { state: 'finished', outFolder: '/var/lib/anneal/demo' });
  standIn.emit({ type: 'changed', what: 'status' });
  await demo.getByText('The demo is finished').waitFor();
  await demo.getByText('/var/lib/anneal/demo').waitFor();
});

test('progress moves with the events, without asking again', async () => {
  await open('site', '/');
  await page.getByText('Step: 23 of 48').waitFor();
  standIn.emit({
    type: 'progress',
    runId: 'run-7f3a2c9e',
    round: 4,
    siteId: 'site-4be1',
    step: 31,
    steps: 48,
    loss: 0.5,
  });
  await page.getByText('Step: 31 of 48').waitFor();
  await page.getByText('Loss 0.500').waitFor();
  expect(await page.getByRole('progressbar', { name: 'Step' }).getAttribute('aria-valuenow')).toBe(
    String((31 / 48) * 100),
  );
});

test('a problem of the agent is shown on every screen, with what to do', async () => {
  await open('site', '/audit', {
    prepare: ({ state }) => {
      state.status.problem = {
        code: 'BROKER_UNREACHABLE',
        message: 'The coordinator cannot be reached.',
        action: 'Check the network.',
      };
      state.status.broker.state = 'offline';
    },
  });
  const alert = page.getByRole('alert');
  await alert.getByText('The coordinator cannot be reached.').waitFor();
  await alert.getByText('Check the network.').waitFor();

  standIn.state.status.problem = null;
  standIn.emit({ type: 'changed', what: 'status' });
  await alert.waitFor({ state: 'detached' });
});

test('subjects: search by pseudonym and by label, filter, withdraw after a warning, trace', async () => {
  await open('site', '/dataset');
  const rows = page.getByRole('table', { name: 'Subjects' }).getByRole('row');
  await page.getByLabel('Search subjects').fill('PHENOTYPE-a');
  await page.getByText(/^\d+ subjects of \d+$/).waitFor();
  for (const text of (await rows.allTextContents()).slice(1)) expect(text).toContain('phenotype-a');
  await page.getByLabel('Search subjects').fill('');
  await page.getByLabel('State').selectOption('expired');
  for (const text of (await rows.allTextContents()).slice(1)) expect(text).toContain('Expired');
  await button('Clear').click();

  await page.getByLabel('Search subjects').fill('p0002');
  await page.getByText(/^1 subject of/).waitFor();
  const row = page.getByRole('row', { name: /P0002/ });
  await row.getByText(/until (15 Jan 2031|Jan 15, 2031)/).waitFor();

  await button('Withdraw the consent of P0002').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Training that is using them stops').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(standIn.state.subjects[1]!.consent).toBe('active');

  await button('Withdraw the consent of P0002').click();
  await dialog.getByRole('button', { name: 'Withdraw consent' }).click();
  await row.getByText('Withdrawn').waitFor();
  expect(await row.textContent()).not.toContain('2031');

  await button('Which runs is P0002 in?').click();
  await dialog.getByText('1–3, 6').waitFor();
});

test('import: the missing file is named, then progress and a report', async () => {
  await open('site', '/dataset/import', { expected: 400 });
  await button('Preview').click();
  await page.getByText('Give the folder that holds the photographs.').waitFor();

  await field('Folder of photographs').fill('/data/photos');
  await field('Table (CSV or Excel)').fill('/data/labels.txt');
  await button('Preview').click();
  await page.getByText('The CSV file "/data/labels.txt" does not exist.').waitFor();

  await field('Table (CSV or Excel)').fill('/data/labels.csv');
  await button('Preview').click();
  await page.getByText('What labels.csv says').waitFor();
  await page.getByRole('button', { name: 'Add images', exact: true }).click();
  await page.getByText(/Images: \d+ of 120/).waitFor();
  await page.getByText('118 images added.').waitFor();
  await button('See what was set aside and why').click();
  await page.getByRole('cell', { name: 'no face found' }).waitFor();
});

test('in the desktop app a folder is chosen in the system’s own dialog', async () => {
  await open('site', '/dataset/import', {
    preload: () => {
      const chooseFile = async (filters: { extensions: string[] }[]) =>
        `/home/anna/labels.${filters[0]?.extensions[0]}`;
      Object.assign(window, {
        anneal: { platform: 'linux', chooseFolder: async () => '/home/anna/Images', chooseFile },
      });
    },
  });
  await button('Choose: Folder of photographs').click();
  await button('Choose: Table (CSV or Excel)').click();
  expect(await page.getByLabel('Folder of photographs', { exact: true }).inputValue()).toBe(
    '/home/anna/Images',
  );
  expect(await page.getByLabel('Table (CSV or Excel)', { exact: true }).inputValue()).toBe(
    '/home/anna/labels.csv',
  );
});

test('in the desktop app a file that is to be written is chosen where none is yet', async () => {
  await open('site', '/dataset', {
    preload: () => {
      const chooseNewFile = async (filters: { extensions: string[] }[]) =>
        `/home/anna/new.${filters[0]?.extensions[0]}`;
      Object.assign(window, { anneal: { platform: 'linux', chooseNewFile } });
    },
  });
  await page.getByRole('tab', { name: 'Consent files' }).click();
  await button('Choose: File to write').click();
  expect(await page.getByLabel('File to write', { exact: true }).inputValue()).toBe('/home/anna/new.json');
});

test('the audit trail loads older entries and says when its chain is broken', async () => {
  await open('site', '/audit');
  await page.getByText('Chain intact').waitFor();
  const rows = page.getByRole('table', { name: 'Audit trail' }).getByRole('row');
  await expect.poll(() => rows.count()).toBe(1 + 100);
  await button('Load older entries').click();
  await expect.poll(() => rows.count(), { timeout: 10_000 }).toBe(1 + 130);
  expect(await button('Load older entries').count()).toBe(0);

  standIn.state.auditIntact = false;
  standIn.emit({ type: 'changed', what: 'audit' });
  await page.getByText('Chain broken').waitFor();
});

test('the keyboard alone reaches the screens, and the look follows the system or the choice', async () => {
  await open('site', '/', { colorScheme: 'dark' });
  const scheme = () => page.locator('html').getAttribute('data-mantine-color-scheme');
  await heading('Overview').waitFor();
  expect(await scheme()).toBe('dark');

  await page.getByRole('link', { name: 'About' }).focus();
  await page.keyboard.press('Enter');
  await heading('Devices').waitFor();
  await page.getByText('no graphics adapter was found').waitFor();
  expect(await page.title()).toBe('About – Anneal');

  await button(/Appearance: same as the system/).press('Enter');
  expect(await scheme()).toBe('light');
  await page.reload();
  await heading('Devices').waitFor();
  expect(await scheme()).toBe('light');
});
