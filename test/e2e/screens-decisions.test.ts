/** Letter, decisions, policy and notices in a real browser, with a stand-in for the agent as in screens.test.ts. */
import { expect, test } from 'vitest';
import type { DecisionRow } from '../../core/api/contract.ts';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import {
  button,
  field,
  heading,
  open,
  page,
  type StandIn,
  standIn,
} from '../fixtures/screens-stand-in/screens-page.ts';
import { approval } from '../fixtures/screens-stand-in/state.ts';

const asks = ({ state }: StandIn) =>
  void Object.assign(state.site, { approval, activity: 'approval-needed', progress: null });
const dialog = () => page.getByRole('dialog');

const decision: DecisionRow = {
  ...{ id: 1, runId: approval.runId, contractSha256: approval.contractSha256 },
  ...{ title: approval.title, purpose: approval.purpose, kind: 'declined', reason: 'no capacity' },
  ...{ standing: null, coveredBy: null, actor: 'site staff' },
  ...{ createdAt: '2026-11-22T09:30:00.000Z', endedAt: null },
};

test('the letter says who asks for what, with this site’s own counts, and trains once approved', async () => {
  await open('site', '/', { prepare: asks });
  const letter = page.getByRole('region', { name: 'Your approval is needed' });
  await letter.getByRole('heading', { name: 'Rare faces, second part' }).waitFor();
  await letter.getByText('Call us with any question.').waitFor();
  await letter.getByText('65 of your 90 training images and 18 of your 24 subjects').waitFor();
  const classes = letter.getByRole('table', { name: 'Classes of the run' });
  await classes.getByRole('row', { name: 'phenotype-b 4 2 0 Too few subjects' }).waitFor();
  await classes.getByRole('row', { name: 'phenotype-c 0 0 0 None consented' }).waitFor();
  await letter.getByText('built into Anneal').waitFor();
  for (const line of [...approval.leaves, ...approval.stays, ...approval.protection])
    await letter.getByText(line).waitFor();
  await letter.getByText('1.41 MB → 180 kB').waitFor();

  await button('What leaves in each round').click();
  const rounds = letter.getByRole('table', { name: 'What leaves in each round' });
  await rounds.getByRole('row', { name: '4–10 LoRA factors 2 60 44,292 180 kB' }).waitFor();
  await button('60 tables of numbers by name').click();
  await letter.getByText('base_model.model.layer_0.lora_A.weight').waitFor();
  await button('All settings of the run').click();
  await letter.getByText('Smallest count').waitFor();

  await button('Approve this run').click();
  await heading('Getting the shared model').waitFor();
  expect(standIn.state.decisions[0]).toMatchObject({ kind: 'approved', standing: null });
});

test('approving within limits begins with the run’s own values, and none may fall short of them', async () => {
  await open('site', '/', { prepare: asks });
  await button('Approve within limits…').click();
  const limit = (name: string) => dialog().getByRole('textbox', { name });
  expect(await limit('Rounds').inputValue()).toBe('10');
  expect(await limit('Contributing sites, at least').inputValue()).toBe('3');
  await limit('Rounds').fill('20');
  await limit('Runs').fill('4');
  await dialog().getByLabel('Last day').fill('2020-01-01');
  await dialog().getByRole('button', { name: 'Approve within these limits' }).click();
  await dialog().getByText('This day is over.').waitFor();
  await dialog().getByLabel('Last day').fill('2099-06-30');

  const classes = dialog().getByLabel('Classes', { exact: true }).first();
  await classes.focus();
  await page.keyboard.press('Backspace');
  await dialog().getByRole('button', { name: 'Approve within these limits' }).click();
  await dialog().getByText('This run needs "phenotype-c"').waitFor();
  expect(standIn.state.decisions).toEqual([]);
  for (const label of ['phenotype-c', 'phenotype-d']) {
    await classes.fill(label);
    await classes.press('Enter');
  }

  await dialog().getByRole('button', { name: 'Approve within these limits' }).click();
  await dialog().waitFor({ state: 'detached' });
  expect(standIn.state.decisions[0]).toMatchObject({
    kind: 'approved-within-limits',
    standing: { rounds: 20, runs: 4, classes: [...approval.limits.classes, 'phenotype-d'], quorum: 3 },
  });
  expect(standIn.state.decisions[0]?.standing?.until).toBe(new Date(2099, 6, 1).toISOString());
});

test('a run is declined with a reason, read again, and approved after all', async () => {
  await open('site', '/', { prepare: asks });
  await button('Decline with a reason…').click();
  await dialog().getByRole('button', { name: 'Decline the run' }).click();
  await dialog().getByText('Say why, so that the coordinator can answer it.').waitFor();
  await field('Reason').fill('The purpose is not in our consent form.');
  await dialog().getByRole('button', { name: 'Decline the run' }).click();
  await heading('You declined this run').waitFor();
  expect(standIn.state.decisions[0]).toMatchObject({
    kind: 'declined',
    reason: 'The purpose is not in our consent form.',
  });

  await page.getByRole('link', { name: 'Read the letter again' }).click();
  const letter = page.getByRole('region', { name: 'Letter and answer' });
  await letter.getByText('The purpose is not in our consent form.').waitFor();
  expect(await button('Decline with a reason…').count(), 'it is declined already').toBe(0);
  await button('Approve this run').click();
  await button('Take the approval back…').waitFor();
  expect(standIn.state.decisions.map(({ kind }) => kind)).toEqual(['approved', 'declined']);
});

test('decisions are listed; limits are taken back after a warning; a run that is over is only read', async () => {
  const within: DecisionRow = {
    ...decision,
    ...{ id: 2, kind: 'approved-within-limits', reason: null, runId: 'earlier', title: 'First part' },
    standing: { ...approval.limits, runs: 3, until: '2099-06-30T00:00:00.000Z', runsUsed: 2 },
  };
  const ownCover: DecisionRow = {
    ...within,
    ...{ id: 3, kind: 'covered', standing: null, coveredBy: 2 },
  };
  const cover: DecisionRow = { ...ownCover, id: 4, runId: 'later', title: 'Third part' };
  await open('site', '/requests', {
    prepare: ({ state }) => {
      state.decisions = [cover, ownCover, within, decision];
      state.site.run!.status = 'finished';
    },
  });
  await heading('No run waits for an answer').waitFor();
  const rows = page.getByRole('table', { name: 'Decisions' }).getByRole('row');
  expect(await rows.count(), 'limits and the run of their letter are one line').toBe(1 + 3);
  await rows
    .filter({ hasText: 'Third part' })
    .getByText(/By the approval of/)
    .waitFor();
  await rows.filter({ hasText: '“no capacity”' }).waitFor();
  const granted = rows.filter({ hasText: 'First part' });
  await granted.getByText(/2 of 3 runs used, until .*10 rounds at most/).waitFor();

  await granted.getByRole('button', { name: 'Take back…' }).click();
  await dialog().getByText('a run in progress that they cover stops here').waitFor();
  await dialog().getByRole('button', { name: 'Take it back' }).click();
  await granted.getByText(/Taken back on/).waitFor();
  expect(await granted.getByRole('button').count()).toBe(0);

  await page.getByRole('link', { name: approval.title }).click();
  await page.getByText('This run is over; there is nothing to decide any more.').waitFor();
  expect(await button('Approve this run').count()).toBe(0);
});

test('the policy: what is typed survives an answer, and what protects less is named before it is saved', async () => {
  await open('site', '/policy');
  await page.getByText('Version 1: the defaults of Anneal').waitFor();
  expect(await button('Save policy').isDisabled(), 'nothing was changed').toBe(true);
  await field('Subjects in a round').fill('10');
  await page.getByText('Default: 5').waitFor();
  await field('Quiet hours').fill('seven');
  await page.getByText('must look like 07:00-19:00').waitFor();
  expect(await button('Save policy').isDisabled()).toBe(true);
  await field('Quiet hours').fill('07:00-19:00');

  standIn.state.policy.policy = { ...defaultSitePolicy, minSteps: 12 };
  standIn.emit({ type: 'changed', what: 'run' });
  await expect.poll(() => field('Steps per round').inputValue()).toBe('12');
  expect(await field('Subjects in a round').inputValue()).toBe('10');

  await button('Save policy').click();
  await page.getByText(/Version 2, set by site staff/).waitFor();
  expect(standIn.state.policy.policy).toMatchObject({
    ...{ minSubjects: 10, minSteps: 12, quietHours: '07:00-19:00' },
  });

  await field('Contributing sites').fill('1');
  await button('Save policy').click();
  await dialog().getByText('Contributing sites: 3 → 1').waitFor();
  await dialog().getByRole('button', { name: 'Cancel' }).click();
  expect(standIn.state.policy.policy.minContributors).toBe(3);
  await button('Save policy').click();
  await dialog().getByRole('button', { name: 'Save it' }).click();
  await page.getByText(/Version 3, set by site staff/).waitFor();
  expect(standIn.state.policy.policy.minContributors).toBe(1);
});

test('a stored policy that does not hold is explained and can be saved again', async () => {
  await open('site', '/policy', {
    prepare: ({ state }) => {
      state.policy.policy = { ...defaultSitePolicy, minSubjects: 1 };
      state.policy.problem = {
        code: 'POLICY_CHANGED',
        message: 'The policy of this site was changed outside of Anneal.',
        action: 'Look at the policy on its screen and save it again.',
      };
    },
  });
  await page.getByRole('alert').getByText('The policy of this site was changed outside of Anneal.').waitFor();

  await button('Save as it is shown').click();
  // What was stored proves nothing: the defaults are the measure.
  await dialog().getByText('Subjects in a round: 5 → 1').waitFor();
  await dialog().getByRole('button', { name: 'Cancel' }).click();
  await button('Use the default: Subjects in a round').click();
  await button('Save policy').click();
  await page.getByText(/Version 2/).waitFor();
  expect(await page.getByRole('alert').count()).toBe(0);
});

test('a run that the policy refused says so and leads to the policy', async () => {
  await open('site', '/', {
    prepare: ({ state }) => {
      Object.assign(state.site, { activity: 'refused', progress: null });
      state.status.problem = {
        code: 'POLICY_REFUSED',
        message: 'The policy of this site allows at most 5 rounds; this run has 10.',
        action: 'Ask the coordinator.',
      };
    },
  });
  await heading('This site does not take part in this run').waitFor();
  await page.getByText('allows at most 5 rounds; this run has 10.').waitFor();
  await page.getByRole('link', { name: 'Look at the policy' }).click();
  await heading('Policy').waitFor();
});

test('the desktop app tells of a request once for each contract', async () => {
  await open('site', '/about', {
    prepare: asks,
    preload: () => {
      const noticed = Number(localStorage.getItem('noticed') ?? 0);
      Object.assign(window, {
        anneal: {
          platform: 'linux',
          noticeApproval: async () => localStorage.setItem('noticed', String(noticed + 1)),
        },
      });
    },
  });
  const noticed = () => page.evaluate(() => localStorage.getItem('noticed'));
  await page.getByRole('link', { name: 'Requests 1 waiting' }).waitFor();
  await expect.poll(noticed).toBe('1');

  await page.reload();
  await page.getByRole('link', { name: 'Requests 1 waiting' }).waitFor();
  expect(await noticed()).toBe('1');

  standIn.state.site.approval = { ...approval, contractSha256: 'd1'.repeat(32) };
  standIn.emit({ type: 'changed', what: 'run' });
  await expect.poll(noticed).toBe('2');
});

test('a browser tells of a request only where the person allowed it, and nothing about it', async () => {
  await open('site', '/requests', {
    preload: () => {
      const said: unknown[] = [];
      class Notice {
        static permission = 'default';
        static requestPermission = async () => {
          Notice.permission = 'granted';
          return 'granted';
        };
        constructor(title: string, { body }: { body: string }) {
          said.push({ title, body });
        }
      }
      Object.assign(window, { Notification: Notice, said });
    },
  });
  const said = () => page.evaluate(() => (window as unknown as { said: unknown[] }).said);
  await button('Tell me on this desktop').click();
  await button('Tell me on this desktop').waitFor({ state: 'detached' });
  expect(await said()).toEqual([]);

  asks(standIn);
  standIn.emit({ type: 'changed', what: 'run' });
  await button('Approve this run').waitFor();
  await expect.poll(said).toEqual([{ title: 'Anneal', body: 'A run asks for approval.' }]);
});
