/** Evidence, marked models and consents that end, on the screens. */
import { expect, test } from 'vitest';
import { button, heading, open, page, standIn } from '../fixtures/screens-stand-in/screens-page.ts';
import { approval } from '../fixtures/screens-stand-in/state.ts';

/** For whoever looks at them: a folder in ANNEAL_PICTURES. */
async function picture(name: string): Promise<void> {
  const folder = process.env['ANNEAL_PICTURES'];
  if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

test('evidence is exported from the audit trail, with the key and the hash to hand on', async () => {
  await open('site', '/audit', { expected: 400 });
  await button('Export evidence…').click();
  const dialog = page.getByRole('dialog', { name: 'Export evidence' });
  await dialog.getByLabel('Folder').fill('/nowhere');
  await dialog.getByRole('button', { name: 'Export' }).click();
  await dialog.getByText('The evidence cannot be written there.').waitFor();

  await dialog.getByLabel('Folder').fill('/media/auditor');
  await dialog.getByRole('button', { name: 'Export' }).click();

  await dialog.getByText('/media/auditor/anneal-evidence-clinic-2026-11-22.jsonl').waitFor();
  await dialog.getByLabel('Key that signed').getByText('k'.repeat(43)).waitFor();
  await picture('evidence');
  await dialog.getByRole('button', { name: 'Close', exact: true }).last().click();
  await dialog.waitFor({ state: 'detached' });
});

test('a broken chain names the place', async () => {
  await open('site', '/audit', {
    prepare: ({ state }) => {
      state.auditIntact = false;
    },
  });

  await page.getByRole('alert').getByText('the chain breaks at number 3').waitFor();
});

test('a marked run says what was withdrawn, and begins again from before', async () => {
  const note =
    'Somebody whose images are in the contributions of Clinic has withdrawn: the results from round 2 on are marked.';
  const withdrawal = { fromRound: 1, sites: ['Clinic'], inheritedFrom: null, note };
  await open('coordinator', '/runs/run-7f3a2c9e', {
    prepare: ({ state }) => {
      state.coordinator.runs[0]!.withdrawal = withdrawal;
      state.coordinator.current!.withdrawal = withdrawal;
      for (const adapter of state.adapters) adapter.withdrawn = adapter.round >= 1;
    },
  });
  await page.getByText(note).waitFor();
  // A page of charts, drawn without a graphics card.
  page.setDefaultTimeout(90_000);
  await picture('marked-run');

  await button('Start again from before…').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Every site is asked for its approval again').waitFor();
  await dialog.getByRole('button', { name: 'Start again' }).click();

  await page.getByText('Started from the result of round 1 of').waitFor();
  expect(page.url()).toContain('run-again');
  await page.getByRole('link', { name: 'Runs' }).click();
  await page.getByText('Consent withdrawn').waitFor();
  await picture('runs');
  await page.getByRole('link', { name: 'Adapters' }).click();
  await heading('Adapters').waitFor();
  await expect.poll(() => page.getByText('Consent withdrawn').count()).toBe(3);
  await picture('adapters');
}, 240_000);

test('consents that end are on the overview and in the letter', async () => {
  const note =
    'The consents of 3 subjects end before this run does, the first on 2026-12-01; it would end about 2026-12-24 if every round takes until its deadline.';
  await open('site', '/', {
    prepare: ({ state }) => {
      state.site.consents = { expiring: 4, notes: [note] };
    },
  });
  await page.getByText('4 active consents end within the next 60 days.').waitFor();
  await page.getByText(note).waitFor();
  await picture('consents-end');

  standIn.state.site.approval = { ...approval, consentNotes: [note] };
  standIn.emit({ type: 'changed', what: 'run' });
  await page.getByText('Consents behind this run').waitFor();
  await picture('letter');
});
