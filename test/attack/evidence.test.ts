/** Who may want to change an evidence bundle: the site that made it, somebody on the way, another site. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { withdrawConsent } from '../../core/consent/consent.ts';
import { type BundleContents, sealSchema, signedText } from '../../core/evidence/bundle-format.ts';
import { verifyEvidence } from '../../core/evidence/verify-bundle.ts';
import { canonicalJson, sha256 } from '../../core/shared/hash.ts';
import type { Signer } from '../../core/transport/signature.ts';
import { type EvidenceSite, newSigner, openEvidenceSite, pseudonyms } from '../fixtures/evidence.ts';

/** Lines without their ends, the seal last. */
const linesOf = async (file: string) => (await readFile(file, 'utf8')).trimEnd().split('\n');

async function given(site: EvidenceSite, content: Buffer | readonly string[]): Promise<string> {
  const file = path.join(
    site.dir,
    `given-${sha256(canonicalJson(content.slice(0, 3).toString())).slice(0, 8)}-${Math.random()}.jsonl`,
  );
  await writeFile(
    file,
    Buffer.isBuffer(content) ? content : `${(content as readonly string[]).join('\n')}\n`,
  );
  return file;
}

const isRefused = (file: string) =>
  verifyEvidence(file).then(
    ({ valid }) => !valid,
    (error: { code?: unknown }) => error.code === 'EVIDENCE_INVALID',
  );

/** What somebody does who holds a key: signs anew what the lines say by now. */
function sealedAgain(lines: readonly string[], signer: Signer): string[] {
  const [header, ...rows] = lines.slice(0, -1);
  const { contents } = sealSchema.parse(JSON.parse(lines.at(-1)!));
  const ofSection = (name: string) => rows.filter((line) => JSON.parse(line).section === name);
  const audit = ofSection('audit').map((line) => JSON.parse(line).row);
  const sections = Object.fromEntries(
    Object.keys(contents.sections).map((name) => {
      const own = ofSection(name);
      return [name, { rows: own.length, sha256: sha256(own.map((line) => `${line}\n`).join('')) }];
    }),
  );
  const head = canonicalJson({ ...JSON.parse(header!), publicKey: signer.publicKey });
  const resealed = {
    headerSha256: sha256(head),
    sections,
    head: audit.at(-1)?.hash ?? '0'.repeat(64),
  } as BundleContents;
  return [head, ...rows, canonicalJson({ contents: resealed, signature: signer.sign(signedText(resealed)) })];
}

test('any byte of a bundle that is changed, and any place where it is cut off, is noticed', async () => {
  using site = openEvidenceSite();
  const bytes = await readFile(await site.export('bundle.jsonl'));
  const places = Array.from({ length: 150 }, (_, i) => Math.floor((i * bytes.length) / 150));
  // The seal byte by byte: base64 has bits that mean nothing.
  const seal = bytes.lastIndexOf(10, bytes.length - 2) + 1;
  for (let at = seal; at < bytes.length; at += 7) places.push(at);
  for (let at = bytes.length - 6; at < bytes.length; at++) places.push(at);

  for (const at of places)
    for (const flip of [1, 2, 0x20]) {
      const changed = Buffer.from(bytes);
      changed[at] = changed[at]! ^ flip;
      expect(await isRefused(await given(site, changed)), `byte ${at} ^ ${flip}`).toBe(true);
    }
  for (const at of places) expect(await isRefused(await given(site, bytes.subarray(0, at)))).toBe(true);
}, 120_000);

test('rows of a bundle that are dropped, exchanged, repeated or moved to another place are noticed', async () => {
  using site = openEvidenceSite();
  const lines = await linesOf(await site.export('bundle.jsonl'));

  for (let at = 1; at < lines.length - 1; at++) {
    const others = lines.filter((_, index) => index !== at);
    expect(await isRefused(await given(site, others))).toBe(true);
    expect(await isRefused(await given(site, lines.toSpliced(at, 0, lines[at]!)))).toBe(true);
    if (at < lines.length - 2)
      expect(await isRefused(await given(site, lines.toSpliced(at, 2, lines[at + 1]!, lines[at]!)))).toBe(
        true,
      );
  }
  expect(await isRefused(await given(site, [...lines, lines.at(-1)!]))).toBe(true);
});

test('a bundle that somebody signed with a key of their own is not taken for that of the site', async () => {
  using site = openEvidenceSite();
  const file = await given(
    site,
    sealedAgain(await linesOf(await site.export('bundle.jsonl')), newSigner('clinic')),
  );

  const report = await verifyEvidence(file, { publicKey: site.signer.publicKey });

  expect(report.checks.find(({ name }) => name === 'key')!.ok).toBe(false);
  // Without a key nobody can tell, and the report says so.
  const blind = await verifyEvidence(file);
  expect(blind.checks.find(({ name }) => name === 'key')!.ok).toBeNull();
});

test('a site that signs again after it dropped consents, rows or the end of its trail is found out', async () => {
  using site = openEvidenceSite();
  const earlier = await site.export('earlier.jsonl');
  withdrawConsent(site.store, { pseudonym: pseudonyms[1]!, recordedBy: 'anna' });
  const lines = await linesOf(await site.export('bundle.jsonl'));
  const isOf = (section: string, action?: string) => (line: string) => {
    const value = JSON.parse(line);
    return value.section === section && (action === undefined || value.row.action === action);
  };

  // Each of these is signed with the site's own key.
  for (const drop of [isOf('consents'), isOf('cohorts'), isOf('decisions'), isOf('policies')]) {
    const at = lines.findLastIndex(drop);
    const file = await given(site, sealedAgain(lines.toSpliced(at, 1), site.signer));
    expect((await verifyEvidence(file)).valid).toBe(false);
  }
  // The withdrawal and its row: what is left fits together, but not with the earlier bundle.
  const shorter = lines
    .toSpliced(lines.findLastIndex(isOf('audit')), 1)
    .filter((line) => !(isOf('consents')(line) && JSON.parse(line).row.kind === 'withdraw'));
  const last = shorter.findLastIndex(isOf('audit', 'consent.withdrawn'));
  const cut = await given(site, sealedAgain(shorter.toSpliced(last, 1), site.signer));
  expect((await verifyEvidence(cut)).valid).toBe(true);
  const report = await verifyEvidence(cut, { previous: earlier });
  expect(report.checks.find(({ name }) => name === 'previous')!.ok).toBe(false);
});

test('the bundle of another site, or an earlier one shown again, does not pass for the one that was asked for', async () => {
  using site = openEvidenceSite();
  using other = openEvidenceSite();
  const foreign = await other.export('foreign.jsonl');
  const earlier = await site.export('earlier.jsonl');
  withdrawConsent(site.store, { pseudonym: pseudonyms[1]!, recordedBy: 'anna' });
  const later = await site.export('later.jsonl');

  const asSite = await verifyEvidence(foreign, { publicKey: site.signer.publicKey });
  const replayed = await verifyEvidence(earlier, { previous: later });

  expect(asSite.checks.find(({ name }) => name === 'key')!.ok).toBe(false);
  expect(replayed.checks.find(({ name }) => name === 'previous')!.ok).toBe(false);
});
