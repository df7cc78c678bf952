/** Sensible settings of a run, for people who change nothing. */
import { localTrainingDefaults } from './local-training.ts';
import { optionDefaults, type RunConfig } from './run-config.ts';

/** What has no default: the base model and the classes. */
export type RunConfigStart = Pick<RunConfig, 'baseId' | 'baseSha256' | 'classes'> & Partial<RunConfig>;

/** Fills in the defaults; does not validate (see `runConfigSchema`). */
export function defaultRunConfig(start: RunConfigStart): RunConfig {
  return {
    strategy: 'sa-fedlora',
    targetModules: 'default',
    rounds: 10,
    initiatingRounds: 2,
    initiatingMode: 'lora',
    lastK: 2,
    heatingRounds: 0,
    coolingRounds: 1,
    shape: 'cubic',
    ...optionDefaults,
    rMax: 16,
    rMin: 2,
    loraScale: 2,
    training: {
      epochs: 1,
      batchSize: 16,
      learningRate: 2e-3,
      headLearningRate: 1e-2,
      baseLearningRate: 1e-4,
      weightDecay: 0.01,
      warmupShare: 0.1,
      clipNorm: 1,
      proximal: 0,
      augment: true,
      labelSmoothing: 0.05,
      logitAdjustment: false,
      ...localTrainingDefaults,
    },
    proximal: 0.01,
    finalLearningRateShare: 1,
    seed: 1,
    quorum: 1,
    roundDeadlineMs: 30 * 60_000,
    purpose: 'federated-training',
    smallCell: 5,
    ...start,
  };
}
