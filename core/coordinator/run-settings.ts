/** What a coordinator may choose when starting a run; everything else has a default. */
import type { z } from 'zod';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { defaultRunConfig } from '../strategy/defaults.ts';
import { checkLoraSettings } from '../strategy/lora-settings.ts';
import { type RunConfig, runConfigSchema } from '../strategy/strategy.ts';

export const runSettingsSchema = runConfigSchema
  .omit({ baseSha256: true, training: true })
  .extend({ training: runConfigSchema.shape.training.partial() })
  .partial();
export type RunSettings = z.infer<typeof runSettingsSchema>;

/** Drops absent keys, which zod's `partial` types as `undefined`. */
function present<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/**
 * Fills in the defaults and checks that the settings fit each other.
 * @throws AppError CONFIG_INVALID naming the setting
 */
export function completeRunConfig(settings: RunSettings, base: BaseModel, enrolledSites: number): RunConfig {
  const { training, ...rest } = settings;
  const defaults = defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: settings.classes ?? [],
  });
  const config: RunConfig = {
    ...defaults,
    quorum: Math.max(1, Math.ceil((enrolledSites * 2) / 3)),
    ...present(rest),
    training: { ...defaults.training, ...present(training ?? {}) },
  };
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new AppError(
      'CONFIG_INVALID',
      `The setting "${issue.path.join('.')}" is not right: ${issue.message}.`,
    );
  }
  refuseContradictions(parsed.data, base);
  return parsed.data;
}

function refuseContradictions(config: RunConfig, base: BaseModel): void {
  const invalid = (message: string) => {
    throw new AppError('CONFIG_INVALID', message);
  };
  if (config.rMin > config.rMax) invalid('The smallest rank (rMin) is larger than the largest (rMax).');
  const fixed = config.initiatingRounds + config.heatingRounds + config.coolingRounds;
  if (config.strategy === 'sa-fedlora' && fixed > config.rounds) {
    invalid(`Initiating, heating and cooling take ${fixed} rounds, but the run has only ${config.rounds}.`);
  }
  if (new Set(config.classes).size !== config.classes.length) invalid('Two classes have the same name.');
  checkLoraSettings(config, base);
}
