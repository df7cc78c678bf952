/**
 * The rows of the store as the rest of Anneal sees them: camelCase, JSON columns parsed.
 * Times are ISO 8601 UTC text with milliseconds, as `Date.toISOString()` writes them, so that they sort as
 * text; hashes are lower-case hexadecimal SHA-256.
 */
import { z } from 'zod';
import { rolesSchema } from '../config/roles.ts';
import { type ErrorReport, errorReportSchema } from '../shared/errors.ts';
import { jsonText as json } from '../shared/text.ts';

const flag = z.union([z.literal(0), z.literal(1)]).transform((value) => value === 1);

export const subjectRecord = z.object({
  id: z.int(),
  /** What the hospital calls the subject in its CSV; never a name. */
  pseudonym: z.string(),
  createdAt: z.string(),
});

/** A subject with what its ready and set-aside images are. */
export const subjectSummary = z.object({
  id: z.int(),
  pseudonym: z.string(),
  /** Ready images, of both splits. */
  images: z.int(),
  labels: json.pipe(z.array(z.string())),
  createdAt: z.string(),
});
export type SubjectSummary = z.infer<typeof subjectSummary>;

export const consentGiverSchema = z.enum(['subject', 'guardian', 'representative']);
export type ConsentGiver = z.infer<typeof consentGiverSchema>;

export const consentEventRecord = z.object({
  /** Grows with the order of recording. */
  id: z.int(),
  subjectId: z.int(),
  kind: z.enum(['grant', 'withdraw']),
  /** `*` in a withdrawal from every purpose. */
  purpose: z.string(),
  /** Null in withdrawals that name none. */
  documentVersion: z.string().nullable(),
  validFrom: z.string(),
  expiresAt: z.string().nullable(),
  recordedAt: z.string(),
  recordedBy: z.string(),
  /** Who signed; null when recorded before version 7, or not said. */
  givenBy: consentGiverSchema.nullable(),
  /** ISO 8601 date on which somebody checked it with who signed. */
  verifiedOn: z.string().nullable(),
  /** The hospital's own name of the document: a form's number, the id of a FHIR resource. */
  reference: z.string().nullable(),
  /** In a grant: id of the withdrawal after which it was given; without it no grant counts after a withdrawal. */
  afterWithdrawal: z.int().nullable(),
});
export type ConsentEventRecord = z.infer<typeof consentEventRecord>;

export const datasetRecord = z.object({ id: z.int(), name: z.string(), createdAt: z.string() });

export const splitSchema = z.enum(['train', 'test']);
export type Split = z.infer<typeof splitSchema>;
export const imageStatusSchema = z.enum(['ready', 'set-aside']);
export type ImageStatus = z.infer<typeof imageStatusSchema>;

/** Face in source pixels, before alignment. */
export const faceBoxSchema = z.object({
  x: z.number(),
  y: z.number(),
  width: z.number(),
  height: z.number(),
});
export type FaceBox = z.infer<typeof faceBoxSchema>;

const share = z.number().min(0).max(1);

/** What was measured of a face at import; docs/images.md says what each figure means. */
export const imageQualitySchema = z.object({
  /** Side of the face's square in pixels of the photograph; of images cropped before the import their shorter side. */
  facePixels: z.number().nonnegative(),
  /** In pixels of the photograph; null, as all that follows from landmarks, for images cropped before the import. */
  eyeDistance: z.number().nonnegative().nullable(),
  /** Share of the contrast that is in the finest details at 64 × 64; about 0.05 for a blurred face, 0.3 for a sharp one. */
  sharpness: z.number().nonnegative(),
  /** Mean of the face; 0 is black. */
  brightness: share,
  /** Parts of the face that are black, or white. */
  blackShare: share,
  whiteShare: share,
  /** Degrees. */
  roll: z.number().nullable(),
  yaw: z.number().nullable(),
  pitch: z.number().nullable(),
  /** How sure the detector was: no measure of occlusion, though hidden faces score lower. */
  detectorScore: share.nullable(),
  /** Degrees clockwise that the photograph was turned by to show the face upright. */
  turned: z.literal([0, 90, 180, 270]),
  /** How the file was read: "first of 3 pages". */
  notes: z.array(z.string()),
});
export type ImageQuality = z.infer<typeof imageQualitySchema>;

/** Kinds of reasons for which an image is set aside, to filter by. */
export const asideKinds = [
  'no-face',
  'several-faces',
  'quality',
  'unreadable',
  'unsupported',
  'too-large',
  'missing',
  'consent-ended',
  'damaged',
  'other',
] as const;
export const asideKindSchema = z.enum(asideKinds);
export type AsideKind = z.infer<typeof asideKindSchema>;

export const imageRecord = z.object({
  id: z.int(),
  datasetId: z.int(),
  subjectId: z.int(),
  pseudonym: z.string(),
  /** Of the original file's bytes. */
  sha256: z.string(),
  /** File name in the import, no folder. */
  sourceName: z.string(),
  label: z.string(),
  split: splitSchema,
  status: imageStatusSchema,
  /** Why it was set aside; null when ready. */
  reason: z.string().nullable(),
  /** Aligned crop; null when set aside at import. */
  cropSha256: z.string().nullable(),
  /** Pixels of the source as it is seen; 0 when it could not be read. */
  width: z.int(),
  height: z.int(),
  /** In pixels of the source as it was turned, see `quality.turned`. */
  faceBox: json.pipe(faceBoxSchema).nullable(),
  /** Null: imported before this was measured, or nothing could be. Never a reason to set it aside. */
  quality: json.pipe(imageQualitySchema).nullable(),
  /** Perceptual hash of the crop, 64 hex digits. */
  cropHash: z.string().nullable(),
  /** Null when ready, and in rows set aside before version 8. */
  asideKind: asideKindSchema.nullable(),
  importedAt: z.string(),
});
export type ImageRecord = z.infer<typeof imageRecord>;

/** An image as one that others are compared with. */
export const hashedImage = imageRecord
  .pick({ id: true, sourceName: true, pseudonym: true, split: true })
  .extend({ cropHash: z.string(), cropSha256: z.string() });
export type HashedImage = z.infer<typeof hashedImage>;

export const consentMediaTypeSchema = z.enum(['application/pdf', 'image/jpeg', 'image/png']);
export type ConsentMediaType = z.infer<typeof consentMediaTypeSchema>;

/** Scan of a signed consent form. */
export const consentDocumentRecord = z.object({
  id: z.int(),
  subjectId: z.int(),
  consentEventId: z.int(),
  /** Of the file, which is a blob. */
  sha256: z.string(),
  mediaType: consentMediaTypeSchema,
  sizeBytes: z.int(),
  addedAt: z.string(),
  addedBy: z.string(),
});
export type ConsentDocumentRecord = z.infer<typeof consentDocumentRecord>;

/** What one image was before a correction, and what it is after it. */
export const imageCorrectionRecord = z.object({
  id: z.int(),
  /** The same for all images that were corrected together. */
  act: z.string(),
  imageId: z.int(),
  subjectId: z.int(),
  newSubjectId: z.int(),
  label: z.string(),
  newLabel: z.string(),
  split: splitSchema,
  newSplit: splitSchema,
  /** Of `correctionReasons` in core/config. */
  reason: z.string(),
  note: z.string().nullable(),
  correctedAt: z.string(),
  correctedBy: z.string(),
});
export type ImageCorrectionRecord = z.infer<typeof imageCorrectionRecord>;

export const imageCount = z.object({
  label: z.string(),
  split: splitSchema,
  ready: z.int(),
  setAside: z.int(),
});

export const siteRecord = z.object({
  id: z.string(),
  name: z.string(),
  /** Ed25519, base64url of the raw 32 bytes. */
  publicKey: z.string(),
  certificateSerial: z.string(),
  joinedAt: z.string(),
  revokedAt: z.string().nullable(),
  lastSeenAt: z.string().nullable(),
  /** JSON as the site published it; parse it with `sitePolicySchema` of core/config. */
  policy: json.nullable(),
  /** Until then the coordinator does not listen to it, for this reason; stays when the time has passed. */
  dismissedUntil: z.string().nullable(),
  dismissalReason: z.string().nullable(),
});
export type SiteRecord = z.infer<typeof siteRecord>;

export const invitationRecord = z.object({
  id: z.string(),
  siteName: z.string(),
  tokenSha256: z.string(),
  createdAt: z.string(),
  expiresAt: z.string(),
  usedAt: z.string().nullable(),
  siteId: z.string().nullable(),
});
export type InvitationRecord = z.infer<typeof invitationRecord>;

export const runStatusSchema = z.enum(['waiting', 'running', 'evaluating', 'finished', 'failed', 'stopped']);
export type RunStatus = z.infer<typeof runStatusSchema>;

/** What another version or a damaged disk wrote. */
const unknownReason: ErrorReport = {
  code: 'INTERNAL',
  message: 'The reason was written by another version of Anneal, or is damaged.',
  action: 'Look at the log file of that day in the data folder.',
};

/** Why a run does not go on now: `asked` by a person, or in trouble, which passes by itself (`retry`) or needs a `person`. */
export const runPauseSchema = z.object({
  kind: z.enum(['asked', 'retry', 'person']),
  /** Null when a person asked for it. */
  failure: errorReportSchema.nullable(),
  since: z.string(),
  /** When the run goes on by itself; null: when a person says so. */
  retryAt: z.string().nullable(),
});
export type RunPause = z.infer<typeof runPauseSchema>;

export const runRecord = z.object({
  id: z.string(),
  /** JSON as stored; parse it with `configOf` of core/coordinator. Null where it is no JSON: one damaged row hides no other. */
  config: json.catch(null),
  status: runStatusSchema,
  /** The round in progress, 0-based. */
  round: z.int(),
  createdAt: z.string(),
  finishedAt: z.string().nullable(),
  failure: json.pipe(errorReportSchema).nullable().catch(unknownReason),
  pause: json
    .pipe(runPauseSchema)
    .nullable()
    .catch({ kind: 'person', failure: unknownReason, since: new Date(0).toISOString(), retryAt: null }),
});
export type RunRecord = z.infer<typeof runRecord>;

export const roundRecord = z.object({
  runId: z.string(),
  round: z.int(),
  /** The same words as `Stage` of core/strategy, which the store may not import. */
  stage: z.enum(['initiating', 'heating', 'annealing', 'cooling', 'baseline']),
  rank: z.int(),
  status: z.enum(['open', 'aggregating', 'closed']),
  trainableParameters: z.int(),
  /** Global state that the round starts from, and the one that it ended with. */
  startSha256: z.string(),
  resultSha256: z.string().nullable(),
  openedAt: z.string(),
  deadlineAt: z.string().nullable(),
  closedAt: z.string().nullable(),
  bytesUp: z.int(),
  bytesDown: z.int(),
  parametersUp: z.int(),
  parametersDown: z.int(),
  meanLoss: z.number().nullable(),
  accuracy: z.number().nullable(),
  energyKept: z.number().nullable(),
  /** Ids of the sites that train; null: all. */
  participants: json.pipe(z.array(z.string())).nullable(),
  /** Part put under the global state when the round closed; null: none. */
  frozenBaseSha256: z.string().nullable(),
  /** At a site: parts under the state that the round starts from, oldest first; null: recorded before version 4. */
  frozenBaseParts: json.pipe(z.array(z.string())).nullable(),
  /** The server optimiser's moments after the round; deleted when a later round has closed. */
  memorySha256: z.string().nullable(),
  /** `Drift` of core/strategy. */
  driftSpread: z.number().nullable(),
  driftShare: z.number().nullable(),
  /** ε spent up to and with this round; null without privacy. */
  epsilon: z.number().nullable(),
  /** By a robust rule. */
  exclusions: json.pipe(z.array(z.object({ siteId: z.string(), reason: z.string() }))).nullable(),
  /** Rank of each layer in the result. */
  layerRanks: json.pipe(z.record(z.string(), z.int())).nullable(),
  /** Of the result; parse it with `evaluationMetricsSchema` of core/strategy. */
  metrics: json.nullable(),
  /** Sites behind the result; null until the round has closed, and where a version before 5 closed it. */
  contributors: z.int().nullable(),
});
export type RoundRecord = z.infer<typeof roundRecord>;

export const roundSiteRecord = z.object({
  runId: z.string(),
  round: z.int(),
  siteId: z.string(),
  status: z.enum(['working', 'announced', 'received', 'rejected', 'absent']),
  reason: z.string().nullable(),
  examples: z.int().nullable(),
  meanLoss: z.number().nullable(),
  updateSha256: z.string().nullable(),
  sizeBytes: z.int().nullable(),
  /** Site only: the frozen cohort behind the update. */
  cohortSha256: z.string().nullable(),
  step: z.int().nullable(),
  steps: z.int().nullable(),
  updatedAt: z.string(),
});
export type RoundSiteRecord = z.infer<typeof roundSiteRecord>;

/** On a coordinator: a site that a round waits for, or waited for until it left. */
export const roundMemberRecord = z.object({
  runId: z.string(),
  round: z.int(),
  siteId: z.string(),
  joinedAt: z.string(),
  leftAt: z.string().nullable(),
});

/** On a coordinator: an update that it began to fetch. It has left its site, whatever became of it. */
export const updateArrivalRecord = z.object({
  runId: z.string(),
  round: z.int(),
  siteId: z.string(),
  sha256: z.string(),
  createdAt: z.string(),
});
export type UpdateArrivalRecord = z.infer<typeof updateArrivalRecord>;

/** An update of a site was made of images of somebody who has withdrawn since. */
export const withdrawalNoticeRecord = z.object({
  runId: z.string(),
  /** 0-based. */
  round: z.int(),
  siteId: z.string(),
  updateSha256: z.string(),
  /** Day in UTC. */
  notedOn: z.string(),
});
export type WithdrawalNoticeRecord = z.infer<typeof withdrawalNoticeRecord>;

/** On a site: an update that it announced. It may have left, whatever became of it. */
export const contributionRecord = z.object({
  runId: z.string(),
  /** 0-based. */
  round: z.int(),
  siteId: z.string(),
  updateSha256: z.string(),
  /** Of the images that it was made of. */
  cohortSha256: z.string(),
  sizeBytes: z.int(),
  announcedAt: z.string(),
});
export type ContributionRecord = z.infer<typeof contributionRecord>;

export const evaluationRecord = z.object({
  runId: z.string(),
  stateSha256: z.string(),
  siteId: z.string(),
  correct: z.int(),
  total: z.int(),
  /** Parse them with `evaluationCountsShape` of core/strategy; null from a site that tells no more than the above. */
  counts: json.nullable(),
  createdAt: z.string(),
});
export type EvaluationRecord = z.infer<typeof evaluationRecord>;

/** What a site keeps to itself of a run after a round: factors and head that do not travel, what rounding left. */
export const siteMemoryRecord = z.object({
  runId: z.string(),
  round: z.int(),
  /** Of a file in the blob store; core/site/memory-file.ts. */
  sha256: z.string(),
  createdAt: z.string(),
});
export type SiteMemoryRecord = z.infer<typeof siteMemoryRecord>;

export const cohortRecord = z.object({
  id: z.int(),
  runId: z.string(),
  round: z.int(),
  /** Of the canonical list of members. */
  sha256: z.string(),
  purpose: z.string(),
  frozenAt: z.string(),
  size: z.int(),
  /** True when another cohort took its place before anything trained on it left the site. */
  superseded: flag,
});
export type CohortRecord = z.infer<typeof cohortRecord>;

export interface CohortMember {
  imageId: number;
  subjectId: number;
}

/** A global state that a manifest named. */
export const modelVersionRecord = z.object({
  runId: z.string(),
  /** The round whose result it is; -1 for the state a run starts from. */
  round: z.int(),
  sha256: z.string(),
  learntAt: z.string(),
});
export type ModelVersionRecord = z.infer<typeof modelVersionRecord>;

/** The held-out images whose counts were sent for a state. */
export const evaluationCohortRecord = z.object({
  id: z.int(),
  runId: z.string(),
  stateSha256: z.string(),
  /** Of the canonical list of members. */
  sha256: z.string(),
  purpose: z.string(),
  evaluatedAt: z.string(),
  size: z.int(),
});
export type EvaluationCohortRecord = z.infer<typeof evaluationCohortRecord>;

export const keptCropsRecord = z.object({ subjectId: z.int(), chosenAt: z.string(), actor: z.string() });

export const erasureRecord = z.object({
  id: z.int(),
  /** `refOf` the pseudonym. */
  subjectRef: z.string(),
  /** Null once its rows are gone. */
  subjectId: z.int().nullable(),
  state: z.enum(['asked', 'deleting', 'files', 'done']),
  actor: z.string(),
  askedAt: z.string(),
  doneAt: z.string().nullable(),
  /** Blobs that are still to be deleted. */
  files: json.pipe(z.array(z.string())).nullable(),
  /** JSON; parse it with `erasedSchema` of core/rights. */
  outcome: json.nullable(),
  readmittedAt: z.string().nullable(),
});
export type ErasureRecord = z.infer<typeof erasureRecord>;

export const sitePolicyRecord = z.object({
  version: z.int(),
  /** JSON; parse it with `sitePolicySchema` of core/config. */
  policy: json,
  /** Of its canonical JSON. */
  sha256: z.string(),
  actor: z.string(),
  createdAt: z.string(),
});
export type SitePolicyRecord = z.infer<typeof sitePolicyRecord>;

export const contractRecord = z.object({
  runId: z.string(),
  sha256: z.string(),
  /** JSON; parse it with `contractSchema` of core/policy. */
  document: json,
  finalStateSha256: z.string().nullable(),
  createdAt: z.string(),
});
export type ContractRecord = z.infer<typeof contractRecord>;
export const contractPins = contractRecord.pick({ runId: true, sha256: true, finalStateSha256: true });

export const decisionRecord = z.object({
  id: z.int(),
  runId: z.string(),
  contractSha256: z.string(),
  kind: z.enum(['approved', 'approved-within-limits', 'covered', 'declined']),
  /** JSON; parse it with `standingApprovalSchema` of core/policy. */
  standing: json.nullable(),
  /** The approval within limits that covered the run. */
  coveredBy: z.int().nullable(),
  reason: z.string().nullable(),
  actor: z.string(),
  createdAt: z.string(),
  endedAt: z.string().nullable(),
});
export type DecisionRecord = z.infer<typeof decisionRecord>;

export const adapterKindSchema = z.enum(['global', 'update']);
export type AdapterKind = z.infer<typeof adapterKindSchema>;

export const adapterRecord = z.object({
  /** Of the model-state file in the blob store. */
  sha256: z.string(),
  runId: z.string(),
  /** The round whose result (global) or contribution (update) it is; -1 for the state a run starts from. */
  round: z.int(),
  kind: adapterKindSchema,
  siteId: z.string().nullable(),
  rank: z.int(),
  parameters: z.int(),
  sizeBytes: z.int(),
  /** Of the state that an update was trained from, where its file means nothing without. */
  startSha256: z.string().nullable(),
  createdAt: z.string(),
});
export type AdapterRecord = z.infer<typeof adapterRecord>;

export const outboxRecord = z.object({
  id: z.int(),
  topic: z.string(),
  /** A sealed envelope; what the answer to it names stands beside it in the table. */
  payload: z.instanceof(Uint8Array),
  retain: flag,
  createdAt: z.string(),
  sentAt: z.string().nullable(),
  messageId: z.string(),
  type: z.string(),
  /** Of an announcement, as the next one. */
  runId: z.string().nullable(),
  updateSha256: z.string().nullable(),
});

export type OutboxRecord = z.infer<typeof outboxRecord>;

export const auditRecord = z.object({
  seq: z.int(),
  at: z.string(),
  actor: z.string(),
  action: z.string(),
  details: json.pipe(z.record(z.string(), z.unknown())),
  previousHash: z.string(),
  hash: z.string(),
});
export type AuditRecord = z.infer<typeof auditRecord>;

export const userRecord = z.object({
  /** Stands in the audit trail; never changes and is never used again. */
  name: z.string(),
  displayName: z.string(),
  roles: json.pipe(rolesSchema),
  /** argon2id in the PHC string format. */
  passwordHash: z.string(),
  /** The password was handed out by an administrator: it is good for choosing another one, and for nothing else. */
  mustChange: flag,
  /** Of a one-time password. */
  passwordExpiresAt: z.string().nullable(),
  /** Who handed the last one-time password out, and when. */
  passwordGivenBy: z.string().nullable(),
  passwordGivenAt: z.string().nullable(),
  createdAt: z.string(),
  createdBy: z.string(),
  deactivatedAt: z.string().nullable(),
});
export type UserRecord = z.infer<typeof userRecord>;

export const proposalKindSchema = z.enum(['approve', 'policy', 'erase']);
export type ProposalKind = z.infer<typeof proposalKindSchema>;

/** An act that waits, or waited, for a second person. */
export const proposalRecord = z.object({
  id: z.int(),
  kind: proposalKindSchema,
  /** Of kind and input. */
  sha256: z.string(),
  /** Subjects by `subjects.refOf`, never by pseudonym. */
  input: json.pipe(z.record(z.string(), z.unknown())),
  proposedBy: z.string(),
  proposedAt: z.string(),
  expiresAt: z.string(),
  /** Null while it waits. */
  outcome: z.enum(['confirmed', 'refused', 'withdrawn', 'expired']).nullable(),
  settledBy: z.string().nullable(),
  settledAt: z.string().nullable(),
});
export type ProposalRecord = z.infer<typeof proposalRecord>;
