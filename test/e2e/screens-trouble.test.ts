/** What the screens say when something went wrong: restored data, wrong clocks, runs that stand still; and backups. */
import { expect, test } from 'vitest';
import { AppError } from '../../core/shared/errors.ts';
import { button, heading, open, page, standIn } from '../fixtures/screens-stand-in/screens-page.ts';
import { at } from '../fixtures/screens-stand-in/state.ts';

/** For whoever looks at them: a folder in ANNEAL_PICTURES. */
async function picture(name: string): Promise<void> {
  const folder = process.env['ANNEAL_PICTURES'];
  if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

test('a site that went back in time says so, and an approver confirms', async () => {
  await open('site', '/', {
    prepare: ({ state }) => {
      state.site.restored = { how: 'copy', noticedAt: at(90), missing: 3, since: at(10) };
      Object.assign(state.site, { activity: 'restored', progress: null });
      const concern = new AppError(
        'SITE_RESTORED',
        'The data of this site is older than what it said before.',
      );
      state.status.concerns = [concern.toReport()];
    },
  });
  await page.getByText('The data of this site is older than what it said before.').waitFor();
  await picture('restored-site');
  await button('Confirm the restored data…').click();
  const dialog = page.getByRole('dialog', { name: 'Go on with the restored data?' });
  await dialog.getByText(/At least 3 entries of the audit trail are missing here/).waitFor();
  await picture('restored-site-dialog');

  await dialog.getByRole('button', { name: 'Consents are complete: go on' }).click();

  await dialog.waitFor({ state: 'detached' });
  await button('Confirm the restored data…').waitFor({ state: 'detached' });
  expect(standIn.state.site.restored).toBeNull();
});

test('a clock that is wrong is said in days, not in thousands of seconds', async () => {
  await open('site', '/', {
    prepare: ({ state }) => {
      state.status.clock = { aheadMs: 2 * 86_400_000, withinMs: 40 };
    },
  });

  await page.getByText('2 days ahead of the coordinator’s').waitFor();
});

test('a run that waits for a person says why and what to do, and goes on', async () => {
  const full = new AppError('DISK_FULL', 'The disk that holds the data folder is full.');
  await open('coordinator', '/runs/run-7f3a2c9e', {
    prepare: ({ state }) => {
      const pause = {
        ...{ kind: 'person', failure: full.toReport(), since: at(70), retryAt: null },
      } as const;
      Object.assign(state.coordinator.current!, { status: 'paused', pause });
    },
  });
  // A page of charts, drawn without a graphics card.
  page.setDefaultTimeout(90_000);
  await page.getByText('This run waits until somebody mends something').waitFor();
  await page.getByText('The disk that holds the data folder is full.').waitFor();
  expect(await page.getByText('closes at the latest').count(), 'no deadline passes').toBe(0);
  await picture('paused-run');
  await button('Resume').click();

  await page.getByText('This run waits until somebody mends something').waitFor({ state: 'detached' });
  expect(standIn.state.coordinator.current!.status).toBe('running');
}, 240_000);

test('backups: what is known, what one made before an erasure means, and one that is under way', async () => {
  await open('site', '/backups', {
    prepare: ({ state }) => {
      const made = [1, 2].map((day) => ({
        ...{ id: `backup-${day}`, madeAt: at(day), sizeBytes: 48_000_000 * day, madeBy: 'anna' },
      }));
      state.backups = {
        ...{ made, count: 2, beforeErasure: 1 },
        underWay: { phase: 'copying', doneBytes: 30, totalBytes: 100, secondsLeft: 42 },
        restored: null,
      };
    },
  });
  await heading('Backups').waitFor();
  await page.getByText(/1 backup made before the newest erasure may still hold that person/).waitFor();
  await page.getByText('Copying the files, about 42 s left').waitFor();
  await picture('backups');

  await button('Cancel the backup').click();

  await page.getByText('A backup is being made').waitFor({ state: 'detached' });
});
