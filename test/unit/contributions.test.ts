/** What has left that was made of a person's images: the report to the person and the erasure know all of it. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { freezeCohort } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { createEraser } from '../../core/rights/erase.ts';
import { subjectReport } from '../../core/rights/subject-report.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import type { RoundSiteRecord } from '../../core/store/records.ts';
import type { Store } from '../../core/store/store.ts';
import { addImage, addRun, openTestStore, temporaryFolder } from '../fixtures/store.ts';

const purpose = 'federated-training';
const at = { runId: 'run', round: 0, siteId: 'here' };

/** Freezes, and announces an update of it, as a site does. */
function announce(store: Store, name: string, status: RoundSiteRecord['status']): string {
  const cohort = freezeCohort(store, { ...at, purpose });
  const updateSha256 = sha256(name);
  const made = { ...at, updateSha256, cohortSha256: cohort.sha256, sizeBytes: 1000 };
  store.roundSites.upsert({ ...made, status });
  store.withdrawalNotices.keepAnnounced(made);
  return updateSha256;
}

/** P1 and P2 are in an update that was taken back because P2 withdrew. */
function takenBack(store: Store): string {
  addRun(store, 'run');
  for (const pseudonym of ['P1', 'P2']) {
    addImage(store, pseudonym, pseudonym);
    const said = { purpose, documentVersion: '1', validFrom: '2026-01-01', recordedBy: 'x' };
    recordConsent(store, { pseudonym, ...said });
  }
  const first = announce(store, 'first', 'working');
  withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'x' });
  return first;
}

/** ... and P1 is in the one that followed. */
function twice(store: Store): { first: string; second: string } {
  const first = takenBack(store);
  const second = announce(store, 'second', 'received');
  const { runId, round, siteId } = at;
  const kept = { runId, round, siteId, kind: 'update', rank: 4, parameters: 1, sizeBytes: 1000 } as const;
  store.adapters.insert({ ...kept, sha256: second });
  return { first, second };
}

test('the report lists an update that was taken back, also when another one was announced since', () => {
  using opened = openTestStore();
  const { store } = opened;
  const { first, second } = twice(store);
  const sentOf = (pseudonym: string) =>
    subjectReport(store, pseudonym, { site: 'here', federation: null }).sent.map(
      ({ update, became, sizeBytes }) => ({ update, became, sizeBytes }),
    );

  const before = { update: first, became: 'taken back before it was received', sizeBytes: 1000 };
  expect(sentOf('P1')).toEqual([before, { update: second, became: 'received and merged', sizeBytes: 1000 }]);
  expect(sentOf('P2')).toEqual([before]);
});

test.each<[string, number, (store: Store) => unknown]>([
  ['of one in an update that was merged', 1, twice],
  ['of one whose update was taken back', 0, (store) => takenBack(store)],
])('an erasure %s counts the %i updates that are still here', async (_what, count, fill) => {
  using opened = openTestStore();
  using folder = temporaryFolder();
  const { store } = opened;
  fill(store);
  const logsFolder = path.join(folder.dir, 'logs');
  await mkdir(logsFolder);
  const eraser = createEraser({
    ...{ store, blobs: createBlobStore(path.join(folder.dir, 'blobs')), logger: silentLogger },
    ...{ site: () => null, logsFolder, workFolder: path.join(folder.dir, 'work') },
  });

  const erased = await eraser.erase('P1', 'anna');

  expect(erased.rows['adapters'] ?? 0).toBe(count);
  expect(store.adapters.list({ kind: 'update' })).toEqual([]);
});

test('the report is owed whatever became of the policy; only when crops go cannot be said then', () => {
  using opened = openTestStore();
  const { store } = opened;
  twice(store);
  const report = () => subjectReport(store, 'P2', { site: 'here', federation: null });
  expect(report()).toMatchObject({ cropsGoAt: expect.any(String), cropsGoUnknown: null });

  // As somebody who writes into the database: no row of the trail says so.
  store.sitePolicies.append({ policy: defaultSitePolicy, sha256: sha256('x'), actor: 'x' });

  expect(report()).toMatchObject({ cropsGoAt: null, cropsGoUnknown: expect.stringContaining('outside') });
  expect(report().sent).toHaveLength(1);
});
