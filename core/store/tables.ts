/**
 * What can be read from and written to each table. Readers are what `openReadOnlyStore` gives; the tables of
 * an open store add the writers. Implementations: one file per table beside this one.
 *
 * Every call may throw AppError DISK_FULL (writers), DATABASE_DAMAGED or INTERNAL. Where a time is optional,
 * the store's clock gives it.
 */
import type { z } from 'zod';
import type * as records from './records.ts';

/** Distributes nothing, but makes undefined and missing the same for callers under exactOptionalPropertyTypes. */
type Patch<T> = { [K in keyof T]?: T[K] | undefined };
type Defaulted<T, K extends keyof T> = Omit<T, K> & Patch<Pick<T, K>>;

export interface SettingsReader {
  /** Null when never set. @throws AppError DATABASE_DAMAGED when the stored value does not fit the schema */
  get<T>(key: string, schema: z.ZodType<T>): T | null;
}
export interface Settings extends SettingsReader {
  /** `value` must have a JSON form. */
  set(key: string, value: unknown): void;
  remove(key: string): void;
}

export interface SubjectsReader {
  byPseudonym(pseudonym: string): records.SubjectRecord | null;
  /** By pseudonym; `search` is a part of it, letter case ignored. */
  list(options?: { search?: string | undefined }): records.SubjectSummary[];
  count(): number;
}
export interface Subjects extends SubjectsReader {
  /** Gives the subject, new or old; a ciphertext given here replaces the stored one. */
  upsert(subject: {
    pseudonym: string;
    identifierCiphertext?: Uint8Array | undefined;
  }): records.SubjectRecord;
  /** Null forgets the identifier. */
  setIdentifier(id: number, ciphertext: Uint8Array | null): void;
}

export interface ConsentEventsReader {
  /** In order of recording. */
  ofSubject(subjectId: number): records.ConsentEventRecord[];
  /** Events of one purpose (and withdrawals from every purpose) of all subjects, in order of recording. */
  ofPurpose(purpose: string): records.ConsentEventRecord[];
  /** All events of all subjects, in order of recording. */
  all(): records.ConsentEventRecord[];
}
/** Append-only; triggers of the database refuse changes. */
export interface ConsentEvents extends ConsentEventsReader {
  append(event: Defaulted<Omit<records.ConsentEventRecord, 'id'>, 'recordedAt'>): records.ConsentEventRecord;
}

export interface DatasetsReader {
  list(): records.DatasetRecord[];
}
export interface Datasets extends DatasetsReader {
  /** Gives the dataset of this name, made now if there was none. */
  ensure(name: string): records.DatasetRecord;
}

export interface ImageFilter {
  datasetId?: number | undefined;
  subjectId?: number | undefined;
  split?: records.Split | undefined;
  status?: records.ImageStatus | undefined;
  label?: string | undefined;
}
export interface ImagesReader {
  get(id: number): records.ImageRecord | null;
  /** In order of import. */
  list(filter?: ImageFilter): records.ImageRecord[];
  /** The image with these bytes (SHA-256 of the original file) in a dataset. */
  bySha(datasetId: number, sha256: string): records.ImageRecord | null;
  /** By label and split, sorted; labels without any image are not listed. */
  counts(filter?: ImageFilter): records.ImageCount[];
}
export type NewImage = Defaulted<
  Omit<records.ImageRecord, 'id' | 'pseudonym'>,
  'reason' | 'cropSha256' | 'faceBox' | 'importedAt'
>;
export interface Images extends ImagesReader {
  /** The new id, or null when the dataset holds these bytes already (nothing is changed then). */
  insert(image: NewImage): number | null;
  setAside(id: number, reason: string): void;
  /** Makes a set-aside image ready, for instance when it is imported again as already cropped. */
  restore(
    id: number,
    image: { cropSha256: string; width: number; height: number; faceBox: records.FaceBox | null },
  ): void;
}

export interface SitesReader {
  get(id: string): records.SiteRecord | null;
  /** By name, revoked ones included. */
  list(): records.SiteRecord[];
}
export interface Sites extends SitesReader {
  /** A site that joins again gets its new key and certificate; its revocation is lifted. */
  upsert(
    site: Pick<records.SiteRecord, 'id' | 'name' | 'publicKey' | 'certificateSerial'>,
  ): records.SiteRecord;
  /** False when unknown or revoked already. */
  revoke(id: string): boolean;
  touchLastSeen(id: string, at?: string): void;
}

export interface InvitationsReader {
  byId(id: string): records.InvitationRecord | null;
  /** Newest first. */
  list(): records.InvitationRecord[];
}
export interface Invitations extends InvitationsReader {
  insert(
    invitation: Pick<records.InvitationRecord, 'id' | 'siteName' | 'tokenSha256' | 'expiresAt'>,
  ): records.InvitationRecord;
  /** True for the one caller that used it first; false when unknown or used already. */
  markUsed(id: string, siteId: string): boolean;
}

export interface RunsReader {
  get(id: string): records.RunRecord | null;
  /** Newest first. */
  list(): records.RunRecord[];
  /** The newest run that is waiting, running or evaluating. */
  current(): records.RunRecord | null;
}
export interface Runs extends RunsReader {
  /** `status` defaults to waiting, `round` to 0. */
  insert(
    run: Defaulted<
      Pick<records.RunRecord, 'id' | 'config' | 'status' | 'round' | 'createdAt'>,
      'status' | 'round' | 'createdAt'
    >,
  ): records.RunRecord;
  /** @throws AppError NOT_FOUND */
  update(
    id: string,
    change: Patch<Pick<records.RunRecord, 'status' | 'round' | 'finishedAt' | 'failure'>>,
  ): records.RunRecord;
}

type RoundDefaults =
  | 'status'
  | 'resultSha256'
  | 'openedAt'
  | 'deadlineAt'
  | 'closedAt'
  | 'bytesUp'
  | 'bytesDown'
  | 'parametersUp'
  | 'parametersDown'
  | 'meanLoss'
  | 'accuracy'
  | 'energyKept'
  | 'participants'
  | 'frozenBaseSha256'
  | 'memorySha256'
  | 'driftSpread'
  | 'driftShare'
  | 'epsilon'
  | 'exclusions'
  | 'layerRanks'
  | 'metrics';
export type RoundChange = Patch<Omit<records.RoundRecord, 'runId' | 'round'>> & {
  /** Added to what is stored, in one statement. */
  addParametersUp?: number | undefined;
};
/** What was sent, to be added to a round's counters. */
export interface RoundTraffic {
  readonly bytesUp?: number;
  readonly bytesDown?: number;
  readonly parametersDown?: number;
}
export interface RoundsReader {
  get(runId: string, round: number): records.RoundRecord | null;
  /** By round. */
  listOfRun(runId: string): records.RoundRecord[];
}
export interface Rounds extends RoundsReader {
  /** `status` defaults to open, counters to 0. The run must exist. @throws AppError RUN_CONFLICT when the round exists */
  insert(round: Defaulted<records.RoundRecord, RoundDefaults>): records.RoundRecord;
  /** @throws AppError NOT_FOUND */
  update(runId: string, round: number, change: RoundChange): records.RoundRecord;
  /** Adds to the counters of the round that its run is in; nothing when that round was not opened. */
  addTraffic(runId: string, traffic: RoundTraffic): void;
}

export interface RoundSitesReader {
  get(runId: string, round: number, siteId: string): records.RoundSiteRecord | null;
  /** By site. */
  list(runId: string, round: number): records.RoundSiteRecord[];
  listOfRun(runId: string): records.RoundSiteRecord[];
}
export interface RoundSites extends RoundSitesReader {
  /** Fields not given keep their value; a new row starts as `working` with nulls. The round must exist. */
  upsert(
    row: Pick<records.RoundSiteRecord, 'runId' | 'round' | 'siteId'> &
      Patch<Omit<records.RoundSiteRecord, 'runId' | 'round' | 'siteId'>>,
  ): records.RoundSiteRecord;
}

export interface UpdateArrivalsReader {
  /** By round, then by site. */
  listOfRun(runId: string): records.UpdateArrivalRecord[];
}
export interface UpdateArrivals extends UpdateArrivalsReader {
  /** Call it in the transaction that begins to fetch the update. Repeating it changes nothing. */
  add(arrival: Omit<records.UpdateArrivalRecord, 'createdAt'>): void;
}

export interface EvaluationsReader {
  /** By site. */
  ofState(runId: string, stateSha256: string): records.EvaluationRecord[];
  ofRun(runId: string): records.EvaluationRecord[];
}
export interface Evaluations extends EvaluationsReader {
  upsert(evaluation: Defaulted<records.EvaluationRecord, 'counts' | 'createdAt'>): void;
}

export interface CohortsReader {
  get(id: number): records.CohortRecord | null;
  /** By round, then by time of freezing; superseded ones included. */
  byRun(runId: string): records.CohortRecord[];
  /** Cohorts that hold an image of this subject, superseded ones included. */
  bySubject(subjectId: number): records.CohortRecord[];
  /** By image id. */
  members(id: number): records.CohortMember[];
}
export interface Cohorts extends CohortsReader {
  insert(
    cohort: Defaulted<Omit<records.CohortRecord, 'id' | 'size' | 'superseded'>, 'frozenAt'> & {
      members: readonly records.CohortMember[];
    },
  ): records.CohortRecord;
  /** Only while nothing trained on it has left the site: a superseded cohort is not part of any model. */
  supersede(id: number): void;
}

export interface AdaptersReader {
  /** The newest row with this hash. */
  get(sha256: string): records.AdapterRecord | null;
  /** Newest first. */
  list(filter?: {
    runId?: string | undefined;
    kind?: records.AdapterKind | undefined;
    sha256?: string | undefined;
  }): records.AdapterRecord[];
  isGlobalState(runId: string, sha256: string): boolean;
}
export interface Adapters extends AdaptersReader {
  /** Repeating an insert changes nothing. */
  insert(adapter: Defaulted<records.AdapterRecord, 'createdAt' | 'siteId'>): void;
  /** Forgets an update of a site that is thrown away. */
  remove(update: Pick<records.AdapterRecord, 'runId' | 'round' | 'siteId' | 'sha256'>): void;
}

export interface SiteMemoryReader {
  /** The newest of a run that was made before this round: what the round starts from. Null when there is none. */
  newestBefore(runId: string, round: number): records.SiteMemoryRecord | null;
  /** By run and round. */
  list(): records.SiteMemoryRecord[];
}
export interface SiteMemory extends SiteMemoryReader {
  /** Call it in the transaction that announces the round's update. A round done again replaces its own. */
  put(memory: Pick<records.SiteMemoryRecord, 'runId' | 'round' | 'sha256'>): void;
  /** Forgets what one round made. */
  remove(runId: string, round: number): void;
  /** Forgets all of a run that is older than what this round started from. */
  prune(runId: string, round: number): void;
}

export interface OutboxReader {
  /** Oldest first, not yet sent. */
  pending(limit?: number): records.OutboxRecord[];
}
export interface Outbox extends OutboxReader {
  /** Call it in the transaction that changes the state it speaks of. Gives the id. */
  add(message: { topic: string; payload: Uint8Array; retain?: boolean | undefined }): number;
  markSent(id: number): void;
  /** Forgets messages sent before this time; gives how many. */
  prune(sentBefore: string): number;
}

export interface Inbox {
  /** False the first time, and the id is remembered; true for a repetition. */
  seen(sender: string, messageId: string): boolean;
  /** Forgets ids received before this time; gives how many. */
  prune(receivedBefore: string): number;
}

export interface AuditVerification {
  intact: boolean;
  /** First row that does not fit the chain. */
  brokenAtSeq: number | null;
  rows: number;
  /** Hash of the newest row; 64 zeros when empty. Kept elsewhere, it also proves that no tail was cut off. */
  head: string;
}
export interface AuditReader {
  /** Newest first, at most `limit` (default 100) rows older than `beforeSeq`. */
  page(options?: { beforeSeq?: number | undefined; limit?: number | undefined }): records.AuditRecord[];
  /** Recomputes every hash. */
  verify(): AuditVerification;
}
export interface Audit extends AuditReader {
  /** `details` must be JSON: pseudonyms and hashes, never identities or paths. */
  append(entry: { actor: string; action: string; details: Record<string, unknown> }): records.AuditRecord;
}
