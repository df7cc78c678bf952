/** What a coordinator may choose when starting a run; everything else has a default. */
import type { z } from 'zod';
import { defaultRunConfig } from '../config/defaults.ts';
import type { BaseModel } from '../models/base-model.ts';
import { statisticWeights } from '../models/trainable-weights.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { refuseCombinations } from '../strategy/combinations.ts';
import { checkLoraSettings } from '../strategy/lora-settings.ts';
import { krumQuorum } from '../strategy/robust/select.ts';
import { type RunConfig, runConfigSchema } from '../strategy/strategy.ts';

const { shape } = runConfigSchema;

/** Settings without the schema's own defaults, so that what was not said can follow from what was. */
export const runSettingsSchema = runConfigSchema
  .omit({ baseSha256: true, training: true })
  .extend({
    training: shape.training.partial(),
    allocation: shape.allocation.unwrap(),
    cutOff: shape.cutOff.unwrap(),
    freezeA: shape.freezeA.unwrap(),
    siteRanks: shape.siteRanks.unwrap(),
    weighting: shape.weighting.unwrap(),
    participation: shape.participation.unwrap(),
    localHead: shape.localHead.unwrap(),
    serverOptimiser: shape.serverOptimiser.unwrap(),
    wire: shape.wire.unwrap(),
    privacy: shape.privacy.unwrap(),
    robust: shape.robust.unwrap(),
  })
  .partial();
export type RunSettings = z.infer<typeof runSettingsSchema>;

/** Drops absent keys, which zod's `partial` types as `undefined`. */
function present<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

const invalid = (message: string, action?: string) =>
  new AppError('CONFIG_INVALID', message, action === undefined ? {} : { action });

/** "The setting "wire.up" is not right: …". */
function badSetting(error: z.ZodError, prefix = 'The'): AppError {
  const issue = error.issues[0]!;
  const path = issue.path.join('.');
  const where = path === '' ? 'text as a whole' : `setting "${path}"`;
  return invalid(`${prefix} ${where} is not right: ${issue.message}.`);
}

/**
 * Settings that a person wrote, for instance in a file. A word that means nothing is refused instead of passed over: a
 * misspelt setting must not become a run without it.
 * @param source what holds them, for the error: "settings.yaml"
 * @throws AppError CONFIG_INVALID naming the source and the setting
 */
export function parseRunSettings(written: unknown, source: string): RunSettings {
  const parsed = runSettingsSchema.safeParse(written);
  if (!parsed.success) throw badSetting(parsed.error, `${source}: the`);
  const unknown = firstUnknown(written, parsed.data, '');
  if (unknown === null) return parsed.data;
  throw invalid(
    `${source}: there is no setting "${unknown}".`,
    'docs/coordinator.md lists the settings; the base model is named by "baseId".',
  );
}

/** The path of something that the schema did not know and dropped. */
function firstUnknown(written: unknown, parsed: unknown, path: string): string | null {
  if (typeof written !== 'object' || written === null || Array.isArray(written)) return null;
  const known = Object(parsed) as Record<string, unknown>;
  for (const [key, value] of Object.entries(written)) {
    const here = path === '' ? key : `${path}.${key}`;
    if (!Object.hasOwn(known, key)) return here;
    const deeper = firstUnknown(value, known[key], here);
    if (deeper !== null) return deeper;
  }
  return null;
}

/**
 * Fills in the defaults and checks that the settings fit each other.
 * @param enrolledSites how many sites there are
 * @param siteNames their names, where they are known: `siteRanks` must name some of these
 * @throws AppError CONFIG_INVALID naming the setting
 */
export function completeRunConfig(
  settings: RunSettings,
  base: BaseModel,
  enrolledSites: number,
  siteNames?: readonly string[],
): RunConfig {
  const { training, ...rest } = settings;
  const defaults = defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: settings.classes ?? [],
  });
  const drawn = drawnSites(settings.participation ?? 1, enrolledSites);
  const config: RunConfig = {
    ...defaults,
    quorum: Math.max(1, Math.ceil((drawn * 2) / 3), Math.min(drawn, robustQuorum(settings.robust))),
    // A site that may say how much it weighs could decide a robust rule's result, or be worth more than the noise.
    weighting: needsEqualWeights(settings) ? 'equal' : defaults.weighting,
    ...present(rest),
    training: { ...defaults.training, ...present(training ?? {}) },
  };
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success) throw badSetting(parsed.error);
  refuseContradictions(parsed.data, base);
  refuseUnknownSites(parsed.data, siteNames);
  if (config.participation < 1 && config.quorum > drawn) {
    throw invalid(
      `The quorum is ${plural(config.quorum, 'site')}, but the participation ${config.participation} draws only ${drawn} of ${enrolledSites}.`,
      'Lower "quorum" or raise "participation".',
    );
  }
  return parsed.data;
}

const drawnSites = (participation: number, sites: number) =>
  Math.max(1, Math.ceil(participation * sites - 1e-9));

function needsEqualWeights({ privacy, robust }: RunSettings): boolean {
  return privacy?.at === 'coordinator' || (robust !== undefined && robust.rule !== 'mean');
}

/** Sites that a robust rule needs; {@link refuseCombinations} refuses a lower quorum. */
function robustQuorum(robust: RunSettings['robust']): number {
  switch (robust?.rule) {
    case 'multi-krum':
      return krumQuorum(robust.byzantine);
    case 'trimmed-mean':
      return Math.ceil(1 / robust.share - 1e-9);
    case 'median':
    case 'norm-bound':
      return 3;
    default:
      return 1;
  }
}

function refuseUnknownSites({ siteRanks }: RunConfig, siteNames: readonly string[] | undefined): void {
  if (siteNames === undefined) return;
  const unknown = Object.keys(siteRanks).find((name) => !siteNames.includes(name));
  if (unknown === undefined) return;
  throw invalid(
    `The setting "siteRanks" names the site "${unknown}", which is not part of this federation.`,
    `The sites are: ${siteNames.join(', ')}.`,
  );
}

function refuseContradictions(config: RunConfig, base: BaseModel): void {
  if (config.rMin > config.rMax) {
    throw invalid('The smallest rank (rMin) is larger than the largest (rMax).');
  }
  const fixed = config.initiatingRounds + config.heatingRounds + config.coolingRounds;
  if (config.strategy === 'sa-fedlora' && fixed > config.rounds) {
    throw invalid(
      `Initiating, heating and cooling take ${plural(fixed, 'round')}, but the run has only ${config.rounds}.`,
    );
  }
  if (new Set(config.classes).size !== config.classes.length) {
    throw invalid('Two classes have the same name.');
  }
  checkLoraSettings(config, base);
  refuseCombinations(config);
  refuseNoisyStatistics(config, base);
}

/** Noise can push a running variance below zero, and then the network computes nothing but NaN at every site. */
function refuseNoisyStatistics(config: RunConfig, base: BaseModel): void {
  const { strategy, privacy, initiatingMode, initiatingRounds } = config;
  const initiates = strategy === 'sa-fedlora' && initiatingMode === 'full' && initiatingRounds > 0;
  const sendsAll = strategy === 'fedavg-full' || strategy === 'fedprox-full' || initiates;
  if (privacy === null || privacy.noiseMultiplier === 0 || !sendsAll) return;
  if (statisticWeights(base, [...base.weights.keys()]).size === 0) return;
  throw invalid(
    'The settings "privacy" and full weights do not go together on this base model: noise would fall on the means and variances of its batch normalisations, which are no result of training.',
    'Choose a strategy that sends LoRA factors, an "initiatingMode" of lora or last-k, or a base model without batch normalisation.',
  );
}
