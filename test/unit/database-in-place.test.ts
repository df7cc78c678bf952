/** A database whose file is replaced or removed while it is open: what would be lost with the process is not confirmed. */
import { copyFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { openStore } from '../../core/store/store.ts';
import { temporaryFolder } from '../fixtures/store.ts';

test.skipIf(process.platform === 'win32').each<[string, (file: string, older: string) => void]>([
  ['replaced by an older copy', (file, older) => renameSync(older, file)],
  ['removed', (file) => rmSync(file)],
])('one that was %s takes no withdrawal', (_, harm) => {
  using folder = temporaryFolder();
  const file = path.join(folder.dir, 'anneal.db');
  const older = path.join(folder.dir, 'older.db');
  const store = openStore(file, { anchorFile: path.join(folder.dir, 'anneal.anchor') });
  const terms = { purpose: 'federated-training', documentVersion: '1', validFrom: '2026-01-01' };
  recordConsent(store, { pseudonym: 'P1', ...terms, recordedBy: 'desk' });
  copyFileSync(file, older);
  recordConsent(store, { pseudonym: 'P2', ...terms, recordedBy: 'desk' });
  const subject = store.subjects.byPseudonym('P1')!.id;

  harm(file, older);

  expect(() => withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk' })).toThrow(
    expect.objectContaining({
      code: 'DATABASE_MISSING',
      message: expect.stringContaining('nothing is recorded'),
    }),
  );
  // Nothing of it holds here either.
  expect(store.consentEvents.ofSubject(subject).map(({ kind }) => kind)).toEqual(['grant']);
  store.close();
});
