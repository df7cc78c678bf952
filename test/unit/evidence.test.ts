import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { signedText } from '../../core/evidence/bundle-format.ts';
import { verifyEvidence } from '../../core/evidence/verify-bundle.ts';
import { createEraser } from '../../core/rights/erase.ts';
import { canonicalJson, sha256 } from '../../core/shared/hash.ts';
import { silentLogger } from '../../core/shared/logger.ts';
import { auditGenesisHash, chainHash } from '../../core/store/audit.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { type EvidenceSite, openEvidenceSite, pseudonyms } from '../fixtures/evidence.ts';

const failures = async (file: string, options = {}) =>
  (await verifyEvidence(file, options)).checks.filter(({ ok }) => ok === false).map(({ name }) => name);

/** Raw access as somebody has who edits the database. */
function tamper(file: string, sql: string): void {
  const db = new Database(file);
  const triggers = db.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'").all() as {
    name: string;
  }[];
  for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
  db.pragma('foreign_keys = OFF');
  db.exec(sql);
  db.close();
}

test('a bundle is verified without the data folder, and says what is proven and what is not', async () => {
  using site = openEvidenceSite();
  const file = await site.export('bundle.jsonl');

  const report = await verifyEvidence(file, { publicKey: site.signer.publicKey });

  expect(report.checks.filter(({ ok }) => ok === false)).toEqual([]);
  expect(report.valid).toBe(true);
  expect(report.bundle.head).toBe(site.store.audit.verify().head);
  expect(report.proven.join(' ')).toContain('All 5 consents');
  expect(report.notProven.join(' ')).toContain('--previous');
});

test('no pseudonym, file name or label of a person is in a bundle, whatever older versions wrote into the trail', async () => {
  using site = openEvidenceSite();
  const { audit } = site.store;
  audit.append({ actor: 'desk', action: 'consent.granted', details: { pseudonym: pseudonyms[1]! } });
  audit.append({
    actor: 'desk',
    action: 'image.set-aside',
    details: { file: 'secret-portrait-2.png', why: 'no face' },
  });
  audit.append({
    actor: 'desk',
    action: 'image.relabelled',
    details: { subject: 'a'.repeat(64), from: 'noonan', to: 'other' },
  });
  audit.append({
    actor: 'desk',
    action: 'run-declined',
    details: { reason: `Ask the parents of ${pseudonyms[2]!}.` },
  });
  audit.append({ actor: 'desk', action: 'noted', details: { byName: { [pseudonyms[3]!]: 3 } } });
  recordConsent(site.store, {
    ...{
      pseudonym: pseudonyms[3]!,
      purpose: 'federated-training',
      documentVersion: 'v2',
      validFrom: '2026-02-01',
    },
    ...{ recordedBy: 'anna', reference: `Consent/${pseudonyms[3]!}` },
  });
  const file = await site.export('bundle.jsonl');

  const text = (await readFile(file, 'utf8')).normalize('NFC');

  for (const secret of [...pseudonyms, 'secret-portrait', 'noonan']) expect(text).not.toContain(secret);
  const report = await verifyEvidence(file);
  expect(report.checks.filter(({ ok }) => ok === false)).toEqual([]);
  expect(report.checks.find(({ name }) => name === 'trail')!.sentence).toContain('of 5 more');
  expect(report.checks.find(({ name }) => name === 'consents')!.sentence).toContain('Of 1');
});

test('a consent whose row of the trail may not be shown is said not to be proven, not to be wrong', async () => {
  using site = openEvidenceSite();
  recordConsent(site.store, {
    ...{
      pseudonym: pseudonyms[2]!,
      purpose: 'federated-training',
      documentVersion: `form of ${pseudonyms[2]!}`,
    },
    ...{ validFrom: '2026-02-01', recordedBy: 'anna' },
  });

  const report = await verifyEvidence(await site.export('bundle.jsonl'));

  expect(report.valid).toBe(true);
  expect(report.checks.find(({ name }) => name === 'consents')!.sentence).toContain(
    '1 consent cannot be held',
  );
});

describe('what somebody changed in the database before the export', () => {
  test.each<[string, string, string[]]>([
    ['a withdrawal that is gone', "DELETE FROM consent_events WHERE kind = 'withdraw'", ['consents']],
    [
      'a consent that is dated back',
      "UPDATE consent_events SET expires_at = '2030-01-01T00:00:00.000Z' WHERE id = 2",
      ['consents'],
    ],
    ['a row of the trail that is gone', 'DELETE FROM audit WHERE seq = 3', ['trail', 'consents']],
    [
      'a row with other details',
      `UPDATE audit SET details = replace(details, '"images":4', '"images":3')`,
      ['trail'],
    ],
    [
      'a decision that nobody made',
      `UPDATE decisions SET contract_sha256 = '${'f'.repeat(64)}'`,
      ['decisions'],
    ],
    ['another contract', `UPDATE contracts SET document = '{"askedBy":{}}'`, ['contracts']],
    ['another policy', `UPDATE site_policies SET policy = '{}'`, ['policies']],
    [
      'an update of other images',
      `UPDATE round_sites SET cohort_sha256 = '${'e'.repeat(64)}'`,
      ['contributions'],
    ],
    [
      'a cohort that was never frozen',
      `UPDATE cohorts SET sha256 = '${'d'.repeat(64)}'`,
      ['cohorts', 'contributions'],
    ],
    [
      'somebody else in a cohort',
      `INSERT INTO subjects (id, pseudonym, created_at) VALUES (99, 'PATIENT-0099', '');
      UPDATE cohort_members SET subject_id = 99 WHERE subject_id = 2`,
      ['cohorts'],
    ],
  ])('shows: %s', async (_what, sql, broken) => {
    using site = openEvidenceSite();
    tamper(site.opened.file, sql);

    const file = await site.export('bundle.jsonl');

    expect(await failures(file)).toEqual(broken);
  });
});

test('an erasure leaves evidence that holds, and tells of the contribution that cannot be taken back', async () => {
  using site = openEvidenceSite();
  const { store } = site;
  const earlier = await site.export('earlier.jsonl');
  const [made] = store.roundSites.listOfRun(store.runs.list()[0]!.id);
  const { runId, round, siteId, updateSha256, cohortSha256 } = made!;
  store.withdrawalNotices.keepAnnounced({
    ...{ runId, round, siteId, updateSha256: updateSha256!, cohortSha256: cohortSha256! },
    sizeBytes: 9,
  });
  const eraser = createEraser({
    ...{
      store,
      blobs: createBlobStore(path.join(site.dir, 'blobs')),
      logger: silentLogger,
      site: () => null,
    },
    ...{ logsFolder: path.join(site.dir, 'logs'), workFolder: path.join(site.dir, 'work') },
  });

  await mkdir(path.join(site.dir, 'logs'));
  await eraser.erase(pseudonyms[2]!, 'anna');
  const file = await site.export('later.jsonl');

  const report = await verifyEvidence(file, { previous: earlier });
  expect(report.checks.filter(({ ok }) => ok === false)).toEqual([]);
  expect(await readFile(file, 'utf8')).not.toContain(pseudonyms[2]);
  expect(store.withdrawalNotices.untold()).toMatchObject([{ runId, round, updateSha256 }]);
});

describe('a bundle that somebody made up and signed', () => {
  /** Puts other rows into a bundle and signs it anew, as everybody can with a key of their own. */
  async function forge(site: EvidenceSite, change: (section: string, row: Row) => Row): Promise<string> {
    const [head, ...lines] = (await readFile(await site.export('true.jsonl'), 'utf8')).trimEnd().split('\n');
    const { contents } = JSON.parse(lines.pop()!);
    const rows = lines.map((line) => JSON.parse(line) as { section: string; row: Row });
    let previousHash = auditGenesisHash;
    for (const one of rows) {
      one.row = change(one.section, one.row);
      if (one.section === 'audit') previousHash = String(one.row['hash']);
    }
    const written = rows.map((row) => canonicalJson(row));
    for (const [name, seal] of Object.entries<{ sha256: string }>(contents.sections))
      seal.sha256 = sha256(
        written
          .filter((_line, i) => rows[i]!.section === name)
          .map((line) => `${line}\n`)
          .join(''),
      );
    contents.head = previousHash;
    const seal = { contents, signature: site.signer.sign(signedText(contents)) };
    const file = path.join(site.dir, 'forged.jsonl');
    await writeFile(file, [head, ...written, canonicalJson(seal), ''].join('\n'));
    return file;
  }
  type Row = Record<string, unknown>;

  test.each(['{"a":1', 'null', '[1]', '"text"', '7'])(
    'with details that are no object, %s, is refused in one sentence',
    async (details) => {
      using site = openEvidenceSite();
      const file = await forge(site, (section, row) =>
        section === 'audit' && row['seq'] === 2 ? { ...row, details } : row,
      );

      await expect(verifyEvidence(file)).rejects.toMatchObject({ code: 'EVIDENCE_INVALID' });
    },
  );

  test('does not pass off a row of an erasure as one that another erasure replaced', async () => {
    using site = openEvidenceSite();
    const { audit } = site.store;
    const erased = audit.append({ actor: 'anna', action: 'subject.erased', details: { redacted: [] } });
    const { hash, ...content } = erased;
    const replaced = canonicalJson({ redacted: [], rows: {} });
    const becomes = chainHash({ ...content, details: replaced });
    audit.append({
      ...{ actor: 'anna', action: 'subject.erased' },
      details: { redacted: [{ seq: erased.seq, hash, becomes }] },
    });
    const file = await forge(site, (section, row) =>
      section === 'audit' && row['seq'] === erased.seq ? { ...row, details: replaced } : row,
    );

    expect(await failures(file)).toEqual(['trail']);
  });
});

describe('an earlier bundle', () => {
  test('proves that nothing of it is gone', async () => {
    using site = openEvidenceSite();
    const earlier = await site.export('earlier.jsonl');
    withdrawConsent(site.store, { pseudonym: pseudonyms[1]!, recordedBy: 'anna' });
    const later = await site.export('later.jsonl');

    expect((await verifyEvidence(later, { previous: earlier })).valid).toBe(true);
    expect(await failures(earlier, { previous: later })).toEqual(['previous']);
  });

  test('of another site proves nothing', async () => {
    using site = openEvidenceSite();
    using other = openEvidenceSite();

    const [own, foreign] = [await site.export('own.jsonl'), await other.export('foreign.jsonl')];

    expect(await failures(own, { previous: foreign })).toEqual(['previous']);
  });
});

test('a file that is there is never replaced, and nothing half-written stays', async () => {
  using site = openEvidenceSite();
  const file = path.join(site.dir, 'bundle.jsonl');
  await writeFile(file, 'kept');

  await expect(site.export('bundle.jsonl')).rejects.toMatchObject({ code: 'FILE_EXISTS' });
  await expect(site.export('no/such/folder.jsonl')).rejects.toMatchObject({ code: 'FILE_UNREADABLE' });

  expect(await readFile(file, 'utf8')).toBe('kept');
});

test.each<[string, string | Buffer]>([
  ['an empty file', ''],
  ['text', 'hello\n'],
  ['JSON of another kind', '{"a":1}\n'],
  ['bytes', Buffer.from([0xff, 0xfe, 0x0a])],
  ['deep nesting', `${'['.repeat(200_000)}\n`],
  ['a newer format', `${canonicalJson({ anneal: 'evidence', version: 2 })}\n`],
  ['a line without an end', 'x'.repeat(17 * 2 ** 20)],
])('%s is refused in one sentence', async (_what, content) => {
  using site = openEvidenceSite();
  const file = path.join(site.dir, 'given.jsonl');
  await writeFile(file, content);

  await expect(verifyEvidence(file)).rejects.toMatchObject({ code: 'EVIDENCE_INVALID' });
});

test('a folder and a file that is not there are named as such', async () => {
  using site = openEvidenceSite();

  await expect(verifyEvidence(site.dir)).rejects.toMatchObject({ code: 'EVIDENCE_INVALID' });
  await expect(verifyEvidence(path.join(site.dir, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
