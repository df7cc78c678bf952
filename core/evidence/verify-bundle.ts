/** Verifies an evidence bundle on any machine: no data folder, no network. docs/evidence.md says what each check proves. */
import { checkCohorts, checkConsents } from './check-consents.ts';
import { checkContracts, checkContributions, checkDecisions, checkPolicies } from './check-decisions.ts';
import { checkTrail } from './check-trail.ts';
import { type Bundle, readBundle } from './read-bundle.ts';
import { type EvidenceCheck, type EvidenceReport, failed, passed, unchecked } from './report.ts';

export interface VerifyOptions {
  /** Ed25519 of who should have signed it, base64url, from a source that the auditor trusts. */
  publicKey?: string | undefined;
  /** An earlier bundle of the same installation. */
  previous?: string | undefined;
  /** A bundle of the coordinator, which names the keys of its sites. */
  coordinator?: string | undefined;
}

/** @throws AppError NOT_FOUND | EVIDENCE_INVALID when a file is not a bundle as it was signed */
export async function verifyEvidence(file: string, options: VerifyOptions = {}): Promise<EvidenceReport> {
  const bundle = await readBundle(file);
  const previous = options.previous === undefined ? null : await readBundle(options.previous);
  const coordinator = options.coordinator === undefined ? null : await readBundle(options.coordinator);
  const { header, rows, contents } = bundle;
  const checks: EvidenceCheck[] = [
    passed('seal', `The file is as it was signed on ${header.createdAt} with the key ${header.publicKey}.`),
    checkKey(bundle, options.publicKey, coordinator),
    checkTrail(bundle),
    checkConsents(bundle),
    checkCohorts(bundle),
    checkPolicies(bundle),
    checkContracts(bundle),
    checkDecisions(bundle),
    checkContributions(bundle),
    checkPrevious(bundle, previous),
  ];
  const { role, id, name, federation, createdAt, publicKey } = header;
  return {
    valid: checks.every(({ ok }) => ok !== false),
    bundle: {
      role,
      id,
      name,
      federation,
      createdAt,
      publicKey,
      rows: rows.audit.length,
      head: contents.head,
    },
    checks,
    proven: checks.filter(({ ok }) => ok === true).map(({ sentence }) => sentence),
    notProven: [
      ...checks.filter(({ ok }) => ok === null).map(({ sentence }) => sentence),
      ...neverProven(header.role),
    ],
  };
}

/** Whose key it is nobody can tell from the bundle itself. */
function checkKey(
  { header }: Bundle,
  expected: string | undefined,
  coordinator: Bundle | null,
): EvidenceCheck {
  if (expected !== undefined && expected !== header.publicKey)
    return failed(
      'key',
      'The bundle is signed with another key than the one that you gave: it is not of that installation.',
    );
  if (coordinator !== null) {
    if (coordinator.header.role !== 'coordinator' || coordinator.header.publicKey !== header.coordinatorKey)
      return failed('key', 'The other bundle is not of the coordinator that this one names.');
    const site = coordinator.rows.sites.find(({ id }) => id === header.id);
    if (header.role === 'site' && site?.publicKey !== header.publicKey)
      return failed('key', 'The coordinator knows this site by another key, or not at all.');
    return passed(
      'key',
      `The coordinator's bundle names this key as that of "${site?.name ?? header.name}".`,
    );
  }
  return expected === undefined
    ? unchecked(
        'key',
        'Whose key it is: give the key that you know with --key, or the bundle of the coordinator with --coordinator.',
      )
    : passed('key', 'It is signed with the key that you gave.');
}

/** Rows that were there may not be gone: whoever holds the key could sign a shorter trail. */
function checkPrevious({ header, rows }: Bundle, previous: Bundle | null): EvidenceCheck {
  if (previous === null)
    return unchecked(
      'previous',
      'That no rows were cut off at the end before the bundle was made: give an earlier bundle with --previous, or compare the hash of the newest row with one that you kept.',
    );
  const before = previous.header;
  if (
    before.publicKey !== header.publicKey ||
    before.id !== header.id ||
    before.federation !== header.federation
  )
    return failed('previous', 'The earlier bundle is of another installation.');
  const differs = previous.rows.audit.find((row, index) => rows.audit[index]?.hash !== row.hash);
  if (differs !== undefined)
    return failed(
      'previous',
      `The earlier bundle has a row ${differs.seq} that this one lacks: the trail was cut off or written anew since.`,
    );
  return passed(
    'previous',
    `All ${previous.rows.audit.length} rows of the earlier bundle are still there, unchanged.`,
  );
}

const neverProven = (role: 'site' | 'coordinator'): string[] =>
  role === 'site'
    ? [
        'That what was recorded is what happened: the site vouches for that with its signature.',
        'Who stands behind a subject, and which photographs are in a cohort: only the site can show that, by its data folder.',
      ]
    : ['That what was recorded is what happened: the coordinator vouches for that with its signature.'];
