/** The checker of the chaos machine finds what it looks for: a healthy federation in stores, and one thing wrong at a time. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { freezeCohort } from '../../core/consent/cohort.ts';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { confirmRestored, markRestored } from '../../core/store/restored.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import type { Mishap } from '../chaos/agent.ts';
import { type Inflicted, openEvidence } from '../chaos/checks/evidence.ts';
import { type Checker, createChecker } from '../chaos/checks/index.ts';
import type { ConsentEntry, FlipEntry, RestoreEntry, World } from '../chaos/faults/index.ts';
import { addImage, temporaryFolder } from '../fixtures/store.ts';

const [siteId, runId, rounds] = ['site-a', 'run', 2];
const purpose = 'federated-training';
const config = defaultRunConfig({ baseId: 'base', baseSha256: sha256('base'), classes: ['a', 'b'] });
let folder: ReturnType<typeof temporaryFolder>;
let coordinator: Store;
let site: Store;
let checker: Checker;
let consents: ConsentEntry[];
let mishaps: Mishap[];
let inflicted: Inflicted[];
let resident: Map<string, number>;
let restores: RestoreEntry[];
let flips: FlipEntry[];
let seenAt: Map<string, number>;
let unsettled: string | null;

const folderOf = (name: string) => path.join(folder.dir, name);
const blobsOf = (name: string) => createBlobStore(path.join(folderOf(name), 'blobs'));

beforeEach(async () => {
  folder = temporaryFolder();
  [checker, consents, mishaps, inflicted, resident] = [createChecker(), [], [], [], new Map()];
  [restores, flips, seenAt, unsettled] = [[], [], new Map([[runId, 5_000]]), null];
  for (const name of ['coordinator', 'site-0'])
    mkdirSync(path.join(folderOf(name), 'logs'), { recursive: true });
  coordinator = openStore(path.join(folderOf('coordinator'), 'anneal.db'));
  site = openStore(path.join(folderOf('site-0'), 'anneal.db'));
  const cropSha256 = await blobsOf('site-0').put(Buffer.from('crop'));
  for (const pseudonym of ['P1', 'P2']) {
    addImage(site, pseudonym, pseudonym, { cropSha256 });
    const terms = { purpose, documentVersion: '1', validFrom: '2026-01-01', recordedBy: 'test' };
    recordConsent(site, { pseudonym, ...terms });
  }
  await addRun(runId);
});
afterEach(() => {
  coordinator.close();
  site.close();
  folder[Symbol.dispose]();
});

const updateOf = (round: number) => sha256(`update ${round}`);

/** A run of two rounds to which the site contributed. */
async function addRun(id: string, change: { update?: string; result?: string } = {}): Promise<void> {
  coordinator.runs.insert({ id, config, status: 'finished', round: rounds - 1 });
  site.runs.insert({ id, config, status: 'finished', round: rounds - 1 });
  const start = await blobsOf('coordinator').put(Buffer.from('start'));
  const adapter = { runId: id, kind: 'global', rank: 4, parameters: 1, sizeBytes: 5 } as const;
  coordinator.adapters.insert({ ...adapter, sha256: start, round: -1 });
  let startSha256 = start;
  for (let round = 0; round < rounds; round++) {
    const resultSha256 = await blobsOf('coordinator').put(
      Buffer.from(`result ${round}${change.result ?? ''}`),
    );
    const facts = {
      runId: id,
      round,
      stage: 'heating',
      rank: 4,
      trainableParameters: 1,
      startSha256,
    } as const;
    coordinator.rounds.insert({
      ...facts,
      status: 'closed',
      resultSha256,
      contributors: 1,
      closedAt: coordinator.now(),
    });
    coordinator.adapters.insert({ ...adapter, sha256: resultSha256, round });
    site.rounds.insert(facts);
    announce(id, round, change.update ?? updateOf(round));
    startSha256 = resultSha256;
  }
}

function announce(id: string, round: number, update: string): void {
  const cohort = freezeCohort(site, { runId: id, round, purpose });
  const said = { runId: id, round };
  site.withdrawalNotices.keepAnnounced({
    ...{ ...said, siteId, updateSha256: update, cohortSha256: cohort.sha256, sizeBytes: 1 },
  });
  const details = { ...said, update, cohort: cohort.sha256 };
  site.audit.append({ actor: 'site', action: 'update-announced', details });
  coordinator.updateArrivals.add({ ...said, siteId, sha256: update });
  coordinator.roundSites.upsert({ ...said, siteId, status: 'received', updateSha256: update });
  coordinator.audit.append({ actor: siteId, action: 'update-received', details: { ...said, update } });
  coordinator.audit.append({
    actor: 'coordinator',
    action: 'round-closed',
    details: { ...said, sites: [siteId] },
  });
}

/** Names of the invariants that are violated. */
function violated(runIds = [runId]): string[] {
  const agentOf = (member: string) => ({ member, dataFolder: folderOf(member) });
  const federation = {
    ...{ rounds, quorum: 1, coordinator: agentOf('coordinator') },
    sites: [{ agent: agentOf('site-0'), siteId, name: 'clinic' }],
  };
  const world = { federation, consents, restores, flips, waits: [] } as unknown as World;
  using evidence = openEvidence(world, {
    ...{ runIds, seenAt, inflicted, mishaps, unsettled, residentBytes: resident },
  });
  return [...new Set(checker.check(evidence).map(({ invariant }) => invariant))].sort();
}

test('a healthy federation violates nothing', () => {
  expect(violated()).toEqual([]);
  expect(checker.arrivals).toEqual({ announced: 2, counted: 2 });
});

test.each<[string, string[], () => unknown]>([
  ['a run that did not end', ['all rounds'], () => coordinator.runs.update(runId, { status: 'running' })],
  [
    'a round that did not close',
    ['all rounds'],
    () => coordinator.rounds.update(runId, 1, { status: 'open', closedAt: null }),
  ],
  [
    'a round that began from something else',
    ['all rounds'],
    () => coordinator.rounds.update(runId, 1, { startSha256: sha256('else') }),
  ],
  [
    'an update that was received twice',
    ['no double counting'],
    () =>
      coordinator.audit.append({
        ...{ actor: siteId, action: 'update-received', details: { runId, round: 0, update: updateOf(0) } },
      }),
  ],
  [
    'a result of more contributors than there are updates',
    ['no double counting'],
    () => coordinator.rounds.update(runId, 0, { contributors: 2 }),
  ],
  [
    'an update that its site never announced',
    ['no double counting'],
    () => coordinator.roundSites.upsert({ runId, round: 0, siteId, updateSha256: sha256('foreign') }),
  ],
  [
    'an update that was announced and left out though its site was there',
    ['no double counting', 'no update lost'],
    () => coordinator.roundSites.upsert({ runId, round: 0, siteId, status: 'absent' }),
  ],
  [
    'a published model whose file is gone',
    ['integrity'],
    () => rmSync(blobsOf('coordinator').path(sha256('result 0'))),
  ],
  [
    'a crop with another byte',
    ['integrity'],
    () => writeFileSync(blobsOf('site-0').path(sha256('crop')), 'krop'),
  ],
  ['a row of the trail that was changed', ['audit chain'], () => changeTrail()],
  [
    'an update of somebody who has withdrawn',
    ['consent'],
    () => {
      const cohort = site.cohorts.byRun(runId)[0]!;
      withdrawConsent(site, { pseudonym: 'P1', recordedBy: 'test' });
      const details = { runId, round: 0, update: updateOf(0), cohort: cohort.sha256 };
      site.audit.append({ actor: 'site', action: 'update-announced', details });
    },
  ],
  [
    'a confirmed withdrawal that the store does not know',
    ['consent'],
    () => consents.push({ member: 'site-0', pseudonym: 'P1', act: 'withdraw', askedAt: 1, confirmedAt: 2 }),
  ],
  ['a site that did not come back', ['everybody back'], () => (unsettled = 'site-0')],
  ['a process that ended by itself', ['processes'], () => mishaps.push({ member: 'site-0', what: 'ended' })],
  ['a process that holds too much', ['memory'], () => resident.set('site-0', 2 ** 32)],
  [
    'a data folder that grew',
    ['disk'],
    () => writeFileSync(path.join(folderOf('site-0'), 'heap'), Buffer.alloc(60 * 2 ** 20)),
  ],
  [
    'an error that nobody handled',
    ['logs'],
    () =>
      writeFileSync(
        path.join(folderOf('site-0'), 'logs', 'agent.log'),
        '{"level":60,"msg":"unhandled rejection"}\n',
      ),
  ],
])('it finds %s', (_what, invariants, spoil) => {
  spoil();

  expect(violated()).toEqual(invariants);
});

test('a site that was away is no loss, and a withdrawal that was recorded is none', () => {
  const at = Date.now();
  coordinator.roundSites.upsert({ runId, round: 0, siteId, status: 'absent' });
  inflicted.push({
    fault: { atMs: 0, kind: 'kill', member: 'site-0', downMs: 1 },
    beganAt: at - 60_000,
    endedAt: at,
  });
  withdrawConsent(site, { pseudonym: 'P1', recordedBy: 'test' });
  consents.push({ member: 'site-0', pseudonym: 'P1', act: 'withdraw', askedAt: at, confirmedAt: at });

  expect(violated()).toEqual(['no double counting']);
});

const restore = (member: RestoreEntry['member'], more: Partial<RestoreEntry> = {}) => {
  const lastRow = (member === 'coordinator' ? coordinator : site).audit.page({ limit: 1 })[0]!.seq;
  const when = { copiedAt: 1_000, restoredAt: 9_000, confirmedAt: null };
  restores.push({ member, hadSaid: true, lastRow, ...when, ...more });
  const fault = { atMs: 0, kind: 'restore', member, from: 'copy', ageMs: 1, downMs: 1 } as const;
  inflicted.push({ fault, beganAt: 500, endedAt: 9_500 });
};

test('a run that began after the copy that was put back is excused, and no other', () => {
  restore('coordinator');
  seenAt.set('lost', 2_000).set('before', 900).set('after', 9_100);

  expect(violated(['lost'])).toEqual([]);
  expect(violated(['before'])).toEqual(['all rounds']);
  expect(violated(['after'])).toEqual(['all rounds']);
});

test('a site that went back has to notice it, and to take back what it announced before anybody has confirmed it', () => {
  restore('site-0');
  expect(violated()).toEqual(['consent']);

  markRestored(site, 'copy');
  const details = { runId, round: 1, update: updateOf(1), cohort: site.cohorts.byRun(runId)[1]!.sha256 };
  site.audit.append({ actor: 'site', action: 'update-announced', details });
  confirmRestored(site, 'somebody');
  restores[0]!.confirmedAt = 9_600;
  expect(violated()).toEqual(['consent']);
});

test('a site that went back, took its updates back and was confirmed violates nothing; nor does one of which nobody knows', () => {
  restore('site-0', { hadSaid: false });
  expect(violated()).toEqual([]);

  markRestored(site, 'copy');
  const details = { runId, round: 1, update: updateOf(1), cohort: site.cohorts.byRun(runId)[1]!.sha256 };
  site.audit.append({ actor: 'site', action: 'update-announced', details });
  site.audit.append({
    ...{ actor: 'site', action: 'round-restarted', details: { runId, round: 1, reason: 'restored' } },
  });
  confirmRestored(site, 'somebody');
  Object.assign(restores[0]!, { hadSaid: true, confirmedAt: 9_600 });
  expect(violated()).toEqual([]);
});

test('after a restore the last word of a subject stands in the store, and a lost one is found', () => {
  restore('site-0', { hadSaid: false });
  consents.push({ member: 'site-0', pseudonym: 'P1', act: 'withdraw', askedAt: 2, confirmedAt: 3 });
  expect(violated()).toEqual(['consent']);

  withdrawConsent(site, { pseudonym: 'P1', recordedBy: 'test' });
  expect(violated()).toEqual([]);
});

test('an update that was damaged at the coordinator may come once more when it was asked for again, and only then', () => {
  const [update, said] = [updateOf(0), { runId, round: 0 }];
  const receive = () =>
    coordinator.audit.append({ actor: siteId, action: 'update-received', details: { ...said, update } });
  coordinator.audit.append({
    ...{ actor: 'coordinator', action: 'update-asked-again', details: { ...said, site: siteId, update } },
  });
  receive();
  expect(violated()).toEqual([]);

  receive();
  expect(violated()).toEqual(['no double counting']);
});

test('a flipped file may lie there as it was flipped, and not otherwise', () => {
  const file = `blobs/${sha256('crop').slice(0, 2)}/${sha256('crop')}`;
  writeFileSync(path.join(folderOf('site-0'), file), 'krop');
  flips.push({ member: 'site-0', file, original: '', damaged: sha256('krop') });
  expect(violated()).toEqual([]);

  writeFileSync(path.join(folderOf('site-0'), file), 'else');
  expect(violated()).toEqual(['integrity']);

  rmSync(path.join(folderOf('site-0'), file));
  expect(violated()).toEqual(['integrity']);
  // A backup leaves a damaged file out.
  restore('site-0');
  expect(violated()).not.toContain('integrity');
});

test('the same beginning has to give the same bytes', async () => {
  violated();
  await addRun('again');
  expect(violated(['again'])).toEqual([]);
  expect(checker.known.compared).toEqual({ updates: 2, results: 2, wholeRuns: 2 });

  await addRun('other', { update: sha256('another update') });
  expect(violated(['other'])).toEqual(['same bytes']);
});

function changeTrail(): void {
  const db = openSqlite(path.join(folderOf('site-0'), 'anneal.db'));
  db.exec("DROP TRIGGER audit_no_update; UPDATE audit SET action = 'nothing' WHERE seq = 1");
  db.close();
}
