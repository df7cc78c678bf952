/** The coordinator's screens in a real browser, with a stand-in for the agent as in screens.test.ts. */
import { expect, test } from 'vitest';
import { createRun } from '../fixtures/screens-stand-in/runs.ts';
import { button, field, heading, open, page, standIn } from '../fixtures/screens-stand-in/screens-page.ts';

test('coordinator: invite, plan with the sliders, start, stop', async () => {
  await open('coordinator', '/', {
    prepare: ({ state }) => {
      const siteNames = state.coordinator.sites.map(({ name }) => name);
      const run = createRun({ id: 'run-old', closedRounds: 10, siteNames });
      Object.assign(state.coordinator, { current: run, runs: [run] });
    },
  });
  await button('Invite a site').click();
  await page.getByRole('dialog').getByLabel('Name of the site').fill('Clinic East');
  await button('Make invitation').click();
  const invitation = page.getByRole('textbox', { name: 'Invitation' });
  expect(await invitation.textContent()).toMatch(/^anneal1:/);
  await button('Done').click();
  await page.getByText('Clinic East').waitFor();

  const plan = page.getByRole('region', { name: 'Plan a run' });
  await plan.getByText('The rank goes from 16 in round 1 to 2 in round 10.').waitFor({ state: 'attached' });
  const rounds = plan.getByRole('slider', { name: 'Rounds' });
  await rounds.focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await plan.getByText('The rank goes from 16 in round 1 to 2 in round 12.').waitFor({ state: 'attached' });
  await plan.getByRole('slider', { name: 'Largest rank' }).focus();
  await page.keyboard.press('ArrowLeft');
  await plan.getByText('The rank goes from 15').waitFor({ state: 'attached' });

  await button('Start the run').click();
  await heading('Round 1 of 12').waitFor();
  expect(standIn.state.coordinator.current?.config).toMatchObject({
    rounds: 12,
    rMax: 15,
    rMin: 2,
    shape: 'cubic',
  });

  await button('Stop').click();
  await button('Stop the run').click();
  await page.getByText('Stopped', { exact: true }).waitFor();
});

test('a run shows sites at work, every round and what was sent', async () => {
  await open('coordinator', '/runs/run-7f3a2c9e');
  const sites = page.getByRole('table', { name: 'Sites in round 5' });
  await sites.getByText('23 of 48').waitFor();
  standIn.emit({
    type: 'progress',
    runId: 'run-7f3a2c9e',
    round: 4,
    siteId: 'site-0',
    step: 40,
    steps: 48,
    loss: 0.44,
  });
  await sites.getByText('40 of 48').waitFor();
  expect(await page.getByRole('table', { name: 'Rounds' }).getByRole('row').count()).toBe(1 + 5);
  await page.getByRole('figure', { name: 'Federated accuracy' }).waitFor();
  await page.getByText('4 rounds of 10 done.').waitFor({ state: 'attached' });

  const siteNames = standIn.state.coordinator.sites.map(({ name }) => name);
  standIn.state.coordinator.current = createRun({ id: 'run-7f3a2c9e', closedRounds: 10, siteNames });
  standIn.emit({ type: 'changed', what: 'run' });
  await page.getByText('Finished').waitFor();
  await page.getByText('96.6 % less').waitFor();
});

test('an adapter is exported; a full disk is explained', async () => {
  await open('coordinator', '/adapters', { expected: 400 });
  await button(/^Export adapter/)
    .first()
    .click();
  const dialog = page.getByRole('dialog');
  await field('Folder').fill('/nowhere');
  await dialog.getByRole('button', { name: 'Export' }).click();
  await dialog.getByText('The disk that holds the data folder is full.').waitFor();
  await field('Folder').fill('/data/export');
  await dialog.getByRole('button', { name: 'Export' }).click();
  await page.getByText('The adapter is exported.').waitFor();
});
