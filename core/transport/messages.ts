/** What sites and the coordinator say to each other: one schema per message type, parsed on arrival. */
import { z } from 'zod';
import { localTrainingSchema } from '../config/local-training.ts';
import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import { sitePolicySchema } from '../config/site-policy.ts';
import { evaluationCountsSchema } from '../evaluation/check-counts.ts';
import { maxImages } from '../evaluation/counts.ts';
import { AppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { plural } from '../shared/text.ts';
import { roundPlanSchema } from '../strategy/strategy.ts';
import { signedPositionSchema } from './position.ts';
import { trailBoxSchema } from './trail-box.ts';

const runIdSchema = z.string().min(1).max(64);
const roundSchema = z.int().min(0).max(1_000_000);
/** Optimiser steps: more than ten million images take in a thousand epochs of batches of ten. */
const stepsSchema = z.int().min(0).max(1_000_000_000);
const imagesSchema = z.int().min(0).max(maxImages);
/** A model whose loss is larger learns nothing any more; sums over all sites stay far from what a number holds. */
const maxLoss = 1e6;
const lossSchema = z.number().min(-maxLoss).max(maxLoss);

/** A loss that a message may hold. */
export function boundedLoss<Loss extends number | null>(loss: Loss): Loss | number {
  if (loss === null) return loss;
  return Number.isNaN(loss) ? maxLoss : Math.min(maxLoss, Math.max(-maxLoss, loss));
}

/** Three years: a clock that differs by more is taken for one that differs by that. */
export const maxClockMs = 1e11;

/** A sentence for people; never longer than a screen line or two. */
const maxReasonLength = 500;
const reasonSchema = z.string().max(maxReasonLength);

/** A reason that a message may hold: an error may name what another's file is full of. */
export function shortReason(text: string): string {
  return text.length <= maxReasonLength ? text : `${text.slice(0, maxReasonLength - 1)}…`;
}

/** Bytes of a chunk, at most: four in flight are 1 MiB, and brokers with a 1 MB packet limit take one. */
export const chunkBytes = 256 * 1024;
const smallestChunkBytes = 1024;
/** No blob is larger than this. */
const maxBlobBytes = 2 ** 31;
/** No manifest is larger than this as JSON; one that an envelope cannot hold travels as a blob. */
export const maxManifestBytes = 8 * 2 ** 20;
/** Sites that a manifest may name. */
export const maxParticipants = 10_000;

/** Names a blob. All chunks are `chunkBytes` long but the last. */
export const blobReferenceSchema = z.strictObject({
  sha256: sha256Schema,
  sizeBytes: z.int().min(1).max(maxBlobBytes),
  chunkBytes: z.int().min(smallestChunkBytes).max(chunkBytes),
});
export type BlobReference = z.infer<typeof blobReferenceSchema>;

/** Version of what a manifest says. */
export const manifestProtocol = 2;

/** A setting that only newer versions know is dropped here: `checkManifest` then tells a person, by the hash. */
const announcedConfigSchema = runConfigSchema.strip().extend({ training: localTrainingSchema.strip() });

/** Coordinator, retained: everything that a site needs to find its work. */
const writtenManifestSchema = z.strictObject({
  /** A site refuses any other: version 1 knew no contract. */
  protocol: z.literal(manifestProtocol),
  runId: runIdSchema,
  config: announcedConfigSchema,
  configSha256: sha256Schema,
  /** Of the contract (core/policy), which a site derives itself from the settings and its base model. */
  contractSha256: sha256Schema,
  phase: z.enum(['waiting', 'train', 'evaluate', 'finished', 'stopped']),
  round: roundSchema,
  plan: roundPlanSchema,
  state: blobReferenceSchema.nullable(),
  /** Sites behind `state`: 0 for the one that a run starts from; null where there is no state. */
  contributors: z.int().min(0).max(maxParticipants).nullable(),
  /** What lies under the state, oldest first (`FrozenBaseDelta` of core/strategy); a site fetches each part once. */
  foundation: z.array(blobReferenceSchema).max(1001).default([]),
  /** Sites that train in this round; all when null. The others only evaluate. */
  participants: z.array(z.string().max(200)).max(maxParticipants).nullable().default(null),
  deadlineAt: z.iso.datetime().nullable(),
  /** Why the coordinator takes nothing of the run now, in a sentence for people; null when it does. */
  paused: reasonSchema.nullable().default(null),
});
/** On the wire the frozen base delta keeps its name of version 0.1. */
export const manifestSchema = writtenManifestSchema.transform(({ foundation, ...body }) => ({
  ...body,
  frozenBaseDelta: foundation,
}));
export type ManifestBody = z.infer<typeof manifestSchema>;

/** As {@link manifestSchema} reads it. */
export const writtenManifest = ({ frozenBaseDelta, ...body }: ManifestBody) => ({
  ...body,
  foundation: frozenBaseDelta,
});

/** Two clocks, as the exchange of hello and welcome tells. */
export const clockDifferenceSchema = z.strictObject({
  /** By how much the site's clock is ahead of the coordinator's; negative when it is behind. */
  aheadMs: z.int().min(-maxClockMs).max(maxClockMs),
  /** Half the time that the exchange took: the difference is known no better. */
  withinMs: z.int().min(0).max(maxClockMs),
});
export type ClockDifference = z.infer<typeof clockDifferenceSchema>;

/** Statements that one message shows to whoever made them. */
export const mostShown = 4;

/** What a site says of where it stands; null from sites of version 0.1, and to coordinators of it. */
const siteStandingSchema = z.strictObject({
  /** What this coordinator said last of where it stands, by process, newest first. */
  yours: z.array(signedPositionSchema).max(mostShown),
  /** Its store went back in time, and nobody there has confirmed that yet. */
  restored: z.boolean(),
  clock: clockDifferenceSchema.nullable(),
});
export type SiteStandingBody = z.infer<typeof siteStandingSchema>;

const coordinatorStandingSchema = z.strictObject({
  /** What the site said last, before the hello that this answers. */
  yours: z.array(signedPositionSchema).max(mostShown),
  /** Heads of the site's audit trail, a day each, newest first; only for a site whose store went back. */
  trails: z.array(trailBoxSchema).max(64),
  /** `other`: another computer uses the keys of this site, and waits. `wait`: this one is the other. */
  twin: z.enum(['none', 'other', 'wait']),
  /** The hello that this answers, and when it came by the coordinator's clock. */
  helloId: z.uuid(),
  at: z.iso.datetime().max(40),
  /** Whose clock is wrong, as far as the clocks of the other sites tell. */
  wrongClock: z.enum(['site', 'coordinator', 'unknown']),
});
export type CoordinatorStandingBody = z.infer<typeof coordinatorStandingSchema>;

/** Site, at each connection. */
const helloSchema = z.strictObject({
  name: z.string().min(1).max(200),
  version: z.string().max(64),
  /** Base models that this site holds. */
  baseIds: z.array(z.string().max(64)).max(100),
  /** The site's rules, so that nobody plans what it would refuse. Rules of a newer version are left out. */
  policy: sitePolicySchema.strip().nullable().default(null),
  standing: siteStandingSchema.nullable().default(null),
});

const progressSchema = z.strictObject({
  runId: runIdSchema,
  round: roundSchema,
  step: stepsSchema,
  steps: stepsSchema,
  /** Null where the run has sites add noise: a loss has none. */
  loss: lossSchema.nullable(),
});
export type ProgressBody = z.infer<typeof progressSchema>;

export const evaluationSchema = z
  .strictObject({
    runId: runIdSchema,
    stateSha256: sha256Schema,
    correct: imagesSchema,
    total: imagesSchema,
    /** All that is released, after the small-cell rule; absent from a site without held-out images. */
    counts: evaluationCountsSchema.optional(),
  })
  .refine(
    ({ correct, total, counts }) => correct === (counts?.correct ?? 0) && total === (counts?.total ?? 0),
    'totals that do not derive from the released counts',
  );
export type EvaluationBody = z.infer<typeof evaluationSchema>;

/** Site: an update is ready to be pulled. */
const announceSchema = z.strictObject({
  runId: runIdSchema,
  round: roundSchema,
  update: blobReferenceSchema,
  examples: z.int().min(1).max(maxImages),
  /** Null as in `progressSchema`. */
  meanLoss: lossSchema.nullable(),
  steps: stepsSchema,
});
export type AnnounceBody = z.infer<typeof announceSchema>;

const declinedSchema = z.strictObject({
  runId: runIdSchema,
  round: roundSchema,
  reason: reasonSchema,
});
export type DeclinedBody = z.infer<typeof declinedSchema>;

/** Site: somebody whose images an update of its own was made of has withdrawn. Who, how many and when is not said. */
export const withdrawnSchema = z.strictObject({
  runId: runIdSchema,
  round: roundSchema,
  updateSha256: sha256Schema,
});
export type WithdrawnBody = z.infer<typeof withdrawnSchema>;

export const receiptSchema = z.strictObject({
  runId: runIdSchema,
  round: roundSchema,
  updateSha256: sha256Schema,
  accepted: z.boolean(),
  reason: reasonSchema.optional(),
  /**
   * Of a refusal: whether asking again is in vain. Absent where accepted, and from older coordinators, whose refusals a site
   * holds against what it knows itself.
   */
  kind: z.enum(['final', 'later']).optional(),
});
export type ReceiptBody = z.infer<typeof receiptSchema>;

/** Coordinator, in answer to `hello`. */
const welcomeSchema = z.strictObject({
  coordinatorName: z.string().max(200),
  version: z.string().max(64),
  standing: coordinatorStandingSchema.nullable().default(null),
});

/** Coordinator: it does not listen to this site until then. */
const dismissedSchema = z.strictObject({ reason: reasonSchema, until: z.iso.datetime().max(40) });
export type DismissedBody = z.infer<typeof dismissedSchema>;

export const presenceSchema = z.strictObject({
  online: z.boolean(),
  /** One per connection; an `offline` counts only for the connection it belongs to. */
  session: z.uuid(),
});

/** Chunks asked for in one request, at most. */
export const maxIndicesPerRequest = 4;

export const blobRequestSchema = z.strictObject({
  sha256: sha256Schema,
  chunkBytes: z.int().min(smallestChunkBytes).max(chunkBytes),
  indices: z
    .array(
      z
        .int()
        .min(0)
        .max(maxBlobBytes / smallestChunkBytes),
    )
    .min(1)
    .max(maxIndicesPerRequest),
});
export type BlobRequestBody = z.infer<typeof blobRequestSchema>;

/** Coordinator: the message with this id is in its store; the site need not repeat it. */
const ackSchema = z.strictObject({ messageId: z.uuid() });

/** Bodies on `site/<site>/up`, for `openEnvelope`. */
export const siteToCoordinator = {
  hello: helloSchema,
  progress: progressSchema,
  evaluation: evaluationSchema,
  announce: announceSchema,
  declined: declinedSchema,
  withdrawn: withdrawnSchema,
} as const;

/** Bodies on `site/<site>/down`, for `openEnvelope`. */
export const coordinatorToSite = {
  receipt: receiptSchema,
  welcome: welcomeSchema,
  ack: ackSchema,
  dismissed: dismissedSchema,
} as const;

/** Bodies on the manifest topic, for `openEnvelope`; `manifest-blob` names the canonical JSON of a large manifest. */
export const manifestBodies = {
  /** Parsed by `parseManifest`: a manifest of another version is refused in words, not dropped. */
  manifest: z.unknown(),
  'manifest-blob': blobReferenceSchema.extend({ sizeBytes: z.int().min(1).max(maxManifestBytes) }),
} as const;

/** @throws AppError MESSAGE_INVALID */
export function parseManifestBlob(bytes: Uint8Array): ManifestBody {
  let body: unknown;
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new AppError('MESSAGE_INVALID', 'The coordinator sent a manifest that cannot be read.', { cause });
  }
  return parseManifest(body);
}

/** @throws AppError MESSAGE_INVALID, with what is wrong in words for people */
export function parseManifest(body: unknown): ManifestBody {
  const parsed = manifestSchema.safeParse(body);
  if (parsed.success) return parsed.data;
  const known = z.object({ protocol: z.int() }).safeParse(body);
  const protocol = known.success ? known.data.protocol : 1;
  const what =
    protocol < manifestProtocol
      ? `speaks the older protocol ${protocol}, which knows no contracts; this site takes part in nothing without one`
      : protocol > manifestProtocol
        ? `speaks the newer protocol ${protocol}`
        : 'sent a manifest that this version of Anneal does not understand';
  throw new AppError('MESSAGE_INVALID', `The coordinator ${what}.`, { cause: parsed.error });
}

/** What a manifest holds beside the settings, at most: 10,000 ids of 64 characters, 1,001 references, the plan. */
const otherManifestBytes = 2 ** 20;

/**
 * Settings that no manifest can hold would leave every site waiting: refused before the run begins.
 * @param sites how many there are
 * @throws AppError CONFIG_INVALID with the limit and the size
 */
export function refuseUnsendable(config: RunConfig, sites: number): void {
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  const limit = maxManifestBytes - otherManifestBytes;
  const size = Buffer.byteLength(canonicalJson(config));
  if (size > limit)
    throw new AppError(
      'CONFIG_INVALID',
      `The settings of this run take ${mebibytes(size)} MiB; a manifest holds at most ${mebibytes(limit)} MiB of settings.`,
      { action: 'Use fewer or shorter class, module and site names.' },
    );
  if (config.participation < 1 && sites > maxParticipants)
    throw new AppError(
      'CONFIG_INVALID',
      `A manifest names at most ${plural(maxParticipants, 'participant')}, but this run draws them (participation ${config.participation}) from ${plural(sites, 'site')}.`,
      { action: 'Set "participation" to 1, so that all sites train.' },
    );
}

/** Clocks may differ by this before anybody is told (ms): time servers are far better. */
const toleratedClockMs = 2 * 60_000;

/** Whether two clocks certainly differ by more than is tolerated. */
export const isClockWrong = ({ aheadMs, withinMs }: ClockDifference): boolean =>
  Math.abs(aheadMs) - withinMs > toleratedClockMs;
