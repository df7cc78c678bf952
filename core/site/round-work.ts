/** What a site needs for its part in a round, and the images that it works on. */

import type { RunConfig } from '../config/run-config.ts';
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import type { Example, Trainer, TrainProgress } from '../engine/trainer-protocol.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { GaussianSource } from '../strategy/privacy/gaussian-noise.ts';
import type { SitePorts } from './ports.ts';
import type { RoundSource, RoundStates } from './round-state.ts';

export interface RoundWork extends RoundSource {
  siteId: string;
}

export interface RoundWorkerOptions {
  store: Store;
  blobs: BlobStore;
  trainer: Trainer;
  ports: SitePorts;
  states: RoundStates;
  /** Of the noise that a run may ask a site for. */
  noise: GaussianSource;
  logger: Logger;
  workFolder: string;
  /** Part of the training seed, so that a run with the same seed and site names repeats. */
  siteName: string;
  /** Where a job on a base model runs. */
  compute: (baseId: string) => ComputeSettings;
  onActivity: (
    activity: 'downloading' | 'evaluating' | 'training' | 'uploading',
    progress: TrainProgress | null,
  ) => void;
}

/** Images whose label is one of the run's classes, as the trainer wants them. */
export function toExamples(images: readonly ImageRecord[], config: RunConfig, blobs: BlobStore): Example[] {
  return images.map((image) => ({
    file: blobs.path(image.cropSha256!),
    label: config.classes.indexOf(image.label),
  }));
}
