/** A site's state machine from the outside: what it needs and what it shows. See site.ts. */
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import type { Trainer, TrainProgress } from '../engine/trainer-protocol.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { BaseFacts } from '../policy/check-policy.ts';
import type { AskedBy } from '../policy/contract.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Store } from '../store/store.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import type {
  AnnounceBody,
  BlobReference,
  DeclinedBody,
  EvaluationBody,
  ManifestBody,
  ProgressBody,
  ReceiptBody,
  WithdrawnBody,
} from '../transport/messages.ts';
import type { FrozenBaseMerge } from './frozen-base-merge.ts';
import type { SiteActivity } from './round-reducer.ts';

export type SiteMessage =
  | { type: 'announce'; body: AnnounceBody }
  | { type: 'evaluation'; body: EvaluationBody }
  | { type: 'declined'; body: DeclinedBody }
  | { type: 'withdrawn'; body: WithdrawnBody };

/** What a site needs from the network; core/site/connection.ts connects it to MQTT. */
export interface SitePorts {
  /** Writes the message to the outbox; call it inside the transaction of the state it speaks of. Sent until acknowledged. */
  enqueue(message: SiteMessage): void;
  /** Takes an announcement back that may not have arrived yet. */
  retractAnnouncement(runId: string, round: number): void;
  /** Sends what is in the outbox now. */
  flush(): void;
  /** Progress is a hint: sent once, lost when offline. */
  sendProgress(body: ProgressBody): void;
  /** Pulls a blob from the coordinator into the blob store; resumes what an earlier try left. */
  fetch(reference: BlobReference, signal: AbortSignal): Promise<void>;
}

export interface SiteOptions {
  siteId: string;
  /** Part of the training seed, so that a run with the same seed and site names repeats. */
  siteName: string;
  store: Store;
  blobs: BlobStore;
  trainer: Trainer;
  ports: SitePorts;
  logger: Logger;
  /** The base models that this site holds; only the built-in ones when absent. */
  catalogue?: Catalogue;
  workFolder: string;
  /** Where a job on a base model runs. */
  compute: (baseId: string) => ComputeSettings;
  /** Of the noise that a run may ask a site for; the operating system's cryptographic one when absent. */
  noise?: GaussianSource;
  /** The same of the noise in counts of held-out images while a run goes on. */
  answerNoise?: GaussianSource;
  /** Shared with other sites of the same process (the simulation); the site's own when absent. */
  frozenBases?: FrozenBaseMerge;
  /** Who may ask, as the site learnt it when it joined: a part of every contract. */
  askedBy: AskedBy;
  /** What this site knows of a base model that it holds. */
  baseFacts(baseId: string): Promise<BaseFacts>;
  /** How often the clock is looked at; a minute when absent. */
  clockEveryMs?: number;
  /** Clock of the quiet hours; for tests. */
  now?: () => Date;
  /** Approve every run that the policy allows without a person; for the demo and for `--approve`. */
  autoApprove?: boolean;
  onChange: () => void;
  onProgress: (progress: { runId: string; round: number } & TrainProgress) => void;
}

export interface SiteNode {
  readonly siteId: string;
  readonly siteName: string;
  readonly activity: SiteActivity;
  readonly progress: TrainProgress | null;
  readonly problem: ErrorReport | null;
  /** One plain sentence on why the site waits although a round is open; null when it does not. */
  readonly notice: string | null;
  /** The newest manifest of the coordinator, if any came yet. */
  readonly manifest: ManifestBody | null;
  receiveManifest(manifest: ManifestBody): void;
  /** The coordinator's store went back in time; call it before the manifest that says so is received. */
  coordinatorReturned(manifest: ManifestBody): void;
  /** This site's store went back in time, or a person has confirmed that it did: the store says which. */
  standingChanged(): void;
  /** @returns whether the update need not be announced again */
  receiveReceipt(receipt: ReceiptBody): boolean;
  /** The coordinator asked for an update whose file is damaged here. */
  updateDamaged(updateSha256: string): void;
  /** What no manifest can be read from; said by the coordinator all the same. */
  refuseUnreadable(error: ErrorReport): void;
  /** Call after a decision about a contract, or another policy, is in the store (decisions.ts). */
  decided(): void;
  /**
   * Runs `work` while nothing here uses the subject: a run that has used it ends its step first, and begins anew behind it.
   * For an erasure, after the subject's consents are withdrawn.
   * @param work `isIdle`: nothing else is using the work folder either
   */
  withoutSubject<T>(subjectId: number, work: (isIdle: boolean) => Promise<T>): Promise<T>;
  pause(): void;
  resume(): void;
  close(): Promise<void>;
}
