/** A site's state machine from the outside: what it needs and what it shows. See site.ts. */
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import type { Trainer, TrainProgress } from '../engine/trainer-protocol.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Store } from '../store/store.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import type { ManifestBody, ReceiptBody } from '../transport/messages.ts';
import type { FrozenBaseMerge } from './frozen-base-merge.ts';
import type { SitePorts } from './ports.ts';

export type SiteActivity =
  | 'waiting'
  | 'approval-needed'
  | 'downloading'
  | 'evaluating'
  | 'training'
  | 'uploading'
  | 'paused';

export interface SiteOptions {
  siteId: string;
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
  /** Shared with other sites of the same process (the simulation); the site's own when absent. */
  frozenBases?: FrozenBaseMerge;
  /** Approve every run without a person; for the demo and for `--approve`. */
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
  receiveReceipt(receipt: ReceiptBody): void;
  approve(runId: string): void;
  pause(): void;
  resume(): void;
  /** Call after a withdrawal is in the store: work that uses the subject stops and starts again without it. */
  consentWithdrawn(pseudonym: string): void;
  close(): Promise<void>;
}
