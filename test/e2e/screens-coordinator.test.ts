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
  const rounds = plan.getByRole('slider', { name: 'Rounds', exact: true });
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

test('coordinator: the stages share the rounds; a refusal stands at its field and mends itself', async () => {
  await open('coordinator', '/', {
    expected: 400,
    prepare: ({ state }) => Object.assign(state.coordinator, { current: null, runs: [] }),
  });
  const plan = page.getByRole('region', { name: 'Plan a run' });
  const slider = (name: string) => plan.getByRole('slider', { name });
  await slider('Cooling rounds').focus();
  await page.keyboard.press('End');
  // 10 rounds, of which two are initiating: eight are left, and none for heating.
  await plan.getByText('Cooling 3–10').waitFor();
  expect(await slider('Heating rounds').count(), 'nothing to choose').toBe(0);
  await page.keyboard.press('Home');
  await plan.getByText('Annealing 3–10').waitFor();
  const chart = plan.getByText('The rank goes from 16 in round 1 to 2 in round 10.');
  await chart.waitFor({ state: 'attached' });

  await button('Advanced settings').click();
  const rule = plan.getByRole('combobox', { name: 'Rule' });
  await rule.click();
  await page.getByRole('option', { name: 'Median of each value' }).click();
  await plan.getByText(/"robust.rule" \(median\) and "strategy" \(sa-fedlora\) cannot be combined/).waitFor();
  expect(await rule.getAttribute('aria-invalid')).toBe('true');
  expect(await button('Start the run').isDisabled()).toBe(true);
  await chart.waitFor({ state: 'attached' });
  // With A fixed single values have a meaning, but sites must count alike: the next refusal stands elsewhere.
  const fixedA = plan.getByRole('switch', { name: 'Train only one factor of the adapter' });
  await fixedA.click();
  await plan.getByText(/"robust.rule" \(median\) and "weighting" \(examples\) cannot be combined/).waitFor();
  await rule.click();
  await page.getByRole('option', { name: 'None: plain mean' }).click();
  await plan.getByText(/cannot be combined/).waitFor({ state: 'detached' });
  await plan.getByRole('combobox', { name: 'Class labels' }).focus();
  for (const label of ['unaffected', 'condition-a']) {
    await page.keyboard.type(label);
    await page.keyboard.press('Enter');
  }
  await button('Start the run').click();
  await heading('Round 1 of 10').waitFor();
  expect(standIn.state.coordinator.current?.config).toMatchObject({
    freezeA: true,
    robust: { rule: 'mean' },
  });
});

test('coordinator: a method says what it does and offers no rank where it has none', async () => {
  await open('coordinator', '/', {
    prepare: ({ state }) => Object.assign(state.coordinator, { current: null, runs: [] }),
  });
  const plan = page.getByRole('region', { name: 'Plan a run' });

  await plan.getByRole('combobox', { name: 'Method' }).click();
  await page.getByRole('option', { name: /FedAvg, whole model/ }).click();
  await plan
    .getByText('All weights of the network train and travel. Costly; the classical comparison.')
    .waitFor();
  const rank = plan.getByRole('slider', { name: 'Largest rank' });
  expect(await rank.count(), 'no factors, no rank').toBe(0);
});

test('a run with privacy and a robust rule tells what was spent, who counted less and which labels are hard', async () => {
  await open('coordinator', '/runs/run-guarded', {
    prepare: ({ state }) => {
      const siteNames = state.coordinator.sites.map(({ name }) => name);
      const run = createRun({
        id: 'run-guarded',
        closedRounds: 4,
        siteNames,
        config: {
          robust: { rule: 'multi-krum', byzantine: 1 },
          privacy: { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 },
        },
      });
      Object.assign(state.coordinator, { current: run, runs: [run] });
    },
  });
  await page.getByText('ε = 1.60').waitFor();
  await page.getByText('The ε that was spent went from 0.800 to 1.600.').waitFor({ state: 'attached' });
  const recall = page.getByRole('list', { name: 'Recall by label after round 4' });
  expect((await recall.getByRole('listitem').allInnerTexts()).map((text) => text.split('\n')[0])).toEqual([
    'phenotype-c',
    'phenotype-a',
    'unaffected',
    'phenotype-b',
  ]);
  await recall.getByText('too few images').waitFor();
  await page.getByRole('figure', { name: 'Drift between sites' }).waitFor();
  const excluded = page.getByRole('table', { name: 'Updates that counted less' });
  await expect.poll(() => excluded.getByRole('row').count()).toBe(1 + 4);
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
  await expect.poll(() => page.getByRole('table', { name: 'Rounds' }).getByRole('row').count()).toBe(1 + 5);
  await page.getByRole('figure', { name: 'Federated accuracy' }).waitFor();
  await page.getByText('4 rounds of 10 done.').waitFor({ state: 'attached' });

  const siteNames = standIn.state.coordinator.sites.map(({ name }) => name);
  standIn.state.coordinator.current = createRun({ id: 'run-7f3a2c9e', closedRounds: 10, siteNames });
  standIn.emit({ type: 'changed', what: 'run' });
  await page.getByText('Finished').waitFor();
  await page.getByText('96.6 % less').waitFor();
});

test('a run is paused and resumed; one in trouble says why, what to do, and when it goes on', async () => {
  await open('coordinator', '/runs/run-7f3a2c9e');
  await button('Pause').click();
  await page.getByText('This run was paused by hand').waitFor();
  await expect.poll(() => button('Pause').count()).toBe(0);
  await button('Resume').click();
  await button('Pause').waitFor();
  await expect.poll(() => page.getByText('This run was paused by hand').count()).toBe(0);

  const failure = {
    code: 'DISK_FULL',
    message: 'The disk that holds the data folder is full.',
    action: 'Free some space, then resume the run.',
  } as const;
  const pause = { kind: 'person', failure, since: '2026-11-22T10:00:00.000Z', retryAt: null } as const;
  Object.assign(standIn.state.coordinator.current!, { status: 'paused', pause });
  standIn.emit({ type: 'changed', what: 'run' });
  await page.getByText('This run waits until somebody mends something').waitFor();
  await page.getByText(failure.message).waitFor();
  await page.getByText('Free some space').waitFor();
  if (process.env['SHOW'] !== undefined) await page.screenshot({ path: process.env['SHOW'] });

  // Also where no more than its summary can be read.
  await page.getByRole('link', { name: 'Overview' }).click();
  await button('Watch it live')
    .or(page.getByRole('link', { name: 'Watch it live' }))
    .waitFor();
  const { coordinator } = standIn.state;
  const { config: _, plan: _plan, done: _done, totals: _totals, ...summary } = coordinator.current!;
  coordinator.runs = [
    { ...summary, strategy: 'unknown', unreadable: 'It was written by an earlier version.' },
  ];
  coordinator.current = null;
  standIn.emit({ type: 'changed', what: 'run' });
  await page.getByText('Run that cannot be loaded').waitFor();
  await button('Stop').waitFor();
  await button('Resume').waitFor();
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
