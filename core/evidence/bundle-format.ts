/**
 * An evidence bundle: one text file of JSON lines, each in the canonical form of RFC 8785 so that there is one way only to
 * write it. The first line is the header, then come rows by section, and the last line is the seal: hash and number of rows
 * of every section, signed with the Ed25519 key with which the installation signs its messages. docs/evidence.md.
 */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import { sha256Schema as hash } from '../shared/sha256-schema.ts';

export const bundleVersion = 1;
/** Of one line: a contract names every tensor of a network. */
export const maxLineBytes = 16 * 2 ** 20;
/** Of a bundle; more than a hundred years of a busy site. */
export const maxBundleBytes = 4 * 2 ** 30;
export const maxRows = 5_000_000;

const id = z.string().min(1).max(200);
const time = z.string().max(40);
const round = z.int().min(-1).max(1_000_000);
const count = z.int().min(0);
const text = z.string().max(2_000);

export const headerSchema = z.strictObject({
  anneal: z.literal('evidence'),
  version: z.literal(bundleVersion),
  role: z.enum(['site', 'coordinator']),
  /** Id of the site, or `coordinator`. */
  id,
  name: text,
  federation: id,
  /** Ed25519, base64url of the raw 32 bytes: who signs. */
  publicKey: z.string().regex(/^[\w-]{43}$/),
  /** Of the coordinator whose federation it is. */
  coordinatorKey: z.string().regex(/^[\w-]{43}$/),
  createdAt: time,
  annealVersion: z.string().max(64),
});
export type BundleHeader = z.infer<typeof headerSchema>;

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

const auditRow = z.strictObject({
  seq: z.int().min(1),
  at: time,
  actor: text,
  action: z.string().max(200),
  /** As stored, canonical JSON; null where they may name a person. */
  details: z
    .string()
    .max(2 ** 22)
    .refine(isJsonObject)
    .nullable(),
  previousHash: hash,
  hash,
});
export type AuditEvidence = z.infer<typeof auditRow>;

const consentRow = z.strictObject({
  id: z.int().min(1),
  /** Keyed hash of the pseudonym, as in the trail. */
  subject: hash,
  kind: z.enum(['grant', 'withdraw']),
  purpose: text,
  documentVersion: text.nullable(),
  validFrom: time,
  expiresAt: time.nullable(),
  recordedAt: time,
  recordedBy: text,
  givenBy: text.nullable(),
  verifiedOn: text.nullable(),
  /** Null also where `hidden` is true: a hospital's number of a document may be that of a person. */
  reference: text.nullable(),
  afterWithdrawal: z.int().nullable(),
  /** Whether some of the above is left out; then `sha256` cannot be computed from it. */
  hidden: z.boolean(),
  /** Of the whole event; the trail names the same. */
  sha256: hash,
});
export type ConsentEvidence = z.infer<typeof consentRow>;

/** What a bundle holds, in this order. */
export const sections = {
  audit: auditRow,
  consents: consentRow,
  /** Who was trained on, round by round. `subjects`: those that were not erased since. */
  cohorts: z.strictObject({
    runId: id,
    round,
    sha256: hash,
    purpose: text,
    frozenAt: time,
    size: count,
    superseded: z.boolean(),
    subjects: z.array(hash).max(1_000_000),
  }),
  policies: z.strictObject({
    version: z.int().min(1),
    sha256: hash,
    policy: z.unknown(),
    actor: text,
    createdAt: time,
  }),
  contracts: z.strictObject({
    runId: id,
    sha256: hash,
    document: z.unknown(),
    finalStateSha256: hash.nullable(),
    createdAt: time,
  }),
  decisions: z.strictObject({
    id: z.int().min(1),
    runId: id,
    contractSha256: hash,
    kind: z.enum(['approved', 'approved-within-limits', 'covered', 'declined']),
    /** Of the limits. */
    standingSha256: hash.nullable(),
    coveredBy: z.int().nullable(),
    actor: text,
    createdAt: time,
    endedAt: time.nullable(),
  }),
  runs: z.strictObject({
    id,
    status: z.string().max(40),
    config: z.unknown(),
    createdAt: time,
    finishedAt: time.nullable(),
  }),
  rounds: z.strictObject({
    runId: id,
    round,
    startSha256: hash,
    resultSha256: hash.nullable(),
    openedAt: time,
    closedAt: time.nullable(),
  }),
  updates: z.strictObject({
    runId: id,
    round,
    siteId: id,
    status: z.string().max(40),
    updateSha256: hash.nullable(),
    cohortSha256: hash.nullable(),
  }),
  models: z.strictObject({
    sha256: hash,
    runId: id,
    round,
    kind: z.enum(['global', 'update']),
    siteId: id.nullable(),
    createdAt: time,
  }),
  notices: z.strictObject({ runId: id, round, siteId: id, updateSha256: hash, notedOn: time }),
  /** Of a coordinator: who takes part, with whose key. */
  sites: z.strictObject({
    id,
    name: text,
    publicKey: z.string().max(200),
    joinedAt: time,
    revokedAt: time.nullable(),
  }),
} as const;
export type SectionName = keyof typeof sections;
export const sectionNames = Object.keys(sections) as SectionName[];
export type SectionRow<Name extends SectionName> = z.infer<(typeof sections)[Name]>;

const sectionSeal = z.strictObject({ rows: count, sha256: hash });
export const contentsSchema = z.strictObject({
  headerSha256: hash,
  sections: z.strictObject(
    Object.fromEntries(sectionNames.map((name) => [name, sectionSeal])) as Record<
      SectionName,
      typeof sectionSeal
    >,
  ),
  /** Hash of the newest audit row; 64 zeros when there is none. */
  head: hash,
});
export type BundleContents = z.infer<typeof contentsSchema>;

export const sealSchema = z.strictObject({
  contents: contentsSchema,
  /** Ed25519 over {@link signedText}, base64url. */
  signature: z.string().regex(/^[\w-]{86}$/),
});

/** Bound to its use: no message of the protocol begins like this. */
export const signedText = (contents: BundleContents): Uint8Array =>
  Buffer.from(`anneal evidence 1\n${canonicalJson(contents)}`, 'utf8');

/** One error for what is no bundle, or not as it was written. */
export const evidenceInvalid = (message: string, cause?: unknown): AppError =>
  new AppError('EVIDENCE_INVALID', message, cause === undefined ? {} : { cause });
