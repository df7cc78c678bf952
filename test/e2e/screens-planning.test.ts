/** What the coordinator says to the sites and hears from their policies, with a stand-in for the agent. */
import { expect, test } from 'vitest';
import type { SiteAnswer } from '../../core/api/contract.ts';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { createRun } from '../fixtures/screens-stand-in/runs.ts';
import { button, open, page, type StandIn, standIn } from '../fixtures/screens-stand-in/screens-page.ts';

const refusal = 'The site policy asks for at least 3 contributing sites; this run is content with 1.';

/** As many sites as `refusals` has entries, in their order. */
function planning(policies: SiteAnswer['policy'][], refusals: string[][]) {
  return ({ state }: StandIn) => {
    Object.assign(state.coordinator, { current: null, runs: [] });
    state.answers = state.coordinator.sites.map(({ id, name }, index) => ({
      ...{ siteId: id, siteName: name },
      ...{ policy: policies[index] ?? null, refusals: refusals[index] ?? [] },
    }));
  };
}

test('a title and a note go to the sites with the run', async () => {
  await open('coordinator', '/', { prepare: planning([], []) });
  const plan = page.getByRole('region', { name: 'Plan a run' });
  await plan.getByRole('textbox', { name: 'Title' }).fill('Rare faces, second part');
  const note = plan.getByRole('textbox', { name: 'Note' });
  await note.fill('Dear colleagues,\nplease look at the classes.');
  expect(await note.evaluate((element) => element.tagName)).toBe('TEXTAREA');
  const labels = plan.getByRole('combobox', { name: 'Class labels' });
  for (const label of ['a', 'b']) {
    await labels.fill(label);
    await labels.press('Enter');
  }

  await button('Start the run').click();
  await expect
    .poll(() => standIn.state.coordinator.current?.config)
    .toMatchObject({
      title: 'Rare faces, second part',
      note: 'Dear colleagues,\nplease look at the classes.',
    });
});

test('each site’s policy says whether it allows the plan; too few of them stop the start', async () => {
  await open('coordinator', '/', {
    prepare: planning([defaultSitePolicy, defaultSitePolicy], [[], [refusal]]),
  });
  const answers = page.getByRole('region', { name: 'What the sites’ policies say' });
  const sites = answers
    .getByRole('list')
    .first()
    .getByText(/Hospital|Clinic|Institute/);
  await answers.getByText('Allows it').waitFor();
  await answers.getByText('Not known yet').waitFor();
  await answers.getByText(refusal).waitFor();
  await expect.poll(() => sites.count()).toBe(3);
  await page.getByText('2 of 3 sites would take part.').waitFor();
  expect(await button('Start the run').isEnabled()).toBe(true);

  for (const answer of standIn.state.answers) answer.refusals = [refusal];
  standIn.emit({ type: 'changed', what: 'sites' });
  await page.getByText('Only 0 of 3 sites would take part, and a round needs 1.').waitFor();
  expect(await button('Start the run').isDisabled()).toBe(true);
});

test('a site that declined shows its reason in the round', async () => {
  const reason = 'The site declined this run: the purpose is not in our consent form.';
  await open('coordinator', '/runs/run-7f3a2c9e', {
    prepare: ({ state }) => {
      const siteNames = state.coordinator.sites.map(({ name }) => name);
      const run = createRun({ id: 'run-7f3a2c9e', closedRounds: 4, siteNames });
      run.done.at(-1)!.sites.at(-1)!.reason = reason;
      Object.assign(state.coordinator, { current: run, runs: [run] });
    },
  });
  const row = page.getByRole('table', { name: 'Sites in round 5' }).getByRole('row').last();
  await row.getByText(reason).waitFor();
  await row.getByText('Absent').waitFor();
});
