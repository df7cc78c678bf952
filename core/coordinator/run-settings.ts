/** Checks what a coordinator chose for a run, and completes it. */
import type { z } from 'zod';
import { type RobustSettings, robustSchema } from '../config/round-options.ts';
import {
  defaultRunConfig,
  defaultWeightCap,
  preparingRounds,
  type RunConfig,
  type RunSettings,
  runConfigSchema,
  runSettingsSchema,
} from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { withSharedNames } from '../models/target-modules.ts';
import { statisticWeights } from '../models/trainable-weights.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { refuseCombinations } from '../strategy/combinations.ts';
import { checkLoraSettings } from '../strategy/lora-settings.ts';
import { getStrategy } from '../strategy/registry.ts';
import { krumQuorum } from '../strategy/robust/select.ts';
import { refuseUnsendable } from '../transport/messages.ts';

const invalid = (message: string, action?: string) =>
  new AppError('CONFIG_INVALID', message, action === undefined ? {} : { action });

/** "The setting "wire.up" is invalid: …". @param source what holds it: "settings.yaml: " */
function badSetting({ issues: [issue] }: z.ZodError, source = ''): AppError {
  const unknown = issue!.code === 'unrecognized_keys' ? issue!.keys[0]! : null;
  const path = [...issue!.path, ...(unknown === null ? [] : [unknown])].join('.');
  const sentence = (text: string) => (source === '' ? text.replace('the', 'The') : `${source}${text}`);
  if (unknown !== null) {
    return invalid(
      sentence(`there is no setting "${path}".`),
      'docs/coordinator.md lists the settings; "baseId" names the base model.',
    );
  }
  const where = path === '' ? 'text as a whole' : `setting "${path}"`;
  return invalid(sentence(`the ${where} is invalid: ${issue!.message}.`));
}

/**
 * Settings that a person wrote, for instance in a file. A word that means nothing is refused instead of passed over: a
 * misspelt setting must not become a run without it.
 * @param source what holds them, for the error: "settings.yaml"
 * @throws AppError CONFIG_INVALID naming the source and the setting
 */
export function parseRunSettings(written: unknown, source: string): RunSettings {
  const parsed = runSettingsSchema.safeParse(written);
  if (!parsed.success) throw badSetting(parsed.error, `${source}: `);
  return parsed.data;
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
  const drawn = drawnSites(settings.participation ?? 1, enrolledSites);
  const parsed = runConfigSchema.safeParse({
    baseId: base.id,
    baseSha256: base.sha256,
    baseOrigin: base.licence.slice(0, 500),
    classes: [],
    quorum: Math.max(1, Math.ceil((drawn * 2) / 3), Math.min(drawn, robustQuorum(settings.robust))),
    weightCap: defaultWeightCap,
    robust: defaultRobust(settings, drawn),
    headStart: defaultHeadStart(settings),
    gallery: 'ends',
    // A site that may say how much it weighs could decide a robust rule's result, or be worth more than the noise.
    ...(needsEqualWeights(settings) && { weighting: 'equal' }),
    ...withSharedNames(base, settings),
  });
  if (!parsed.success) throw badSetting(parsed.error);
  const config = parsed.data;
  refuseUnsendable(config, enrolledSites);
  refuseContradictions(config, base);
  refuseUnknownSites(config, siteNames);
  if (config.participation < 1 && config.quorum > drawn) {
    throw invalid(
      `The quorum is ${plural(config.quorum, 'site')}, but a participation of ${config.participation} draws only ${drawn} of ${enrolledSites}.`,
      'Lower "quorum" or raise "participation".',
    );
  }
  return config;
}

const drawnSites = (participation: number, sites: number) =>
  Math.max(1, Math.ceil(participation * sites - 1e-9));

function needsEqualWeights({ privacy, robust, weightCap }: RunSettings): boolean {
  if (privacy?.at === 'coordinator') return true;
  if (robust === undefined || robust.rule === 'mean') return false;
  return robust.rule !== 'norm-bound' || weightCap === null;
}

/** Fewer sites show nobody which of them is wrong, and hide nobody among the others. */
const fewestForProtection = 3;

/** Oversized updates are scaled down wherever that has a meaning: by default nobody has to be trusted. */
function defaultRobust(
  { privacy, quorum, weighting, weightCap }: RunSettings,
  drawn: number,
): RobustSettings {
  const isPossible =
    Math.min(drawn, quorum ?? drawn) >= fewestForProtection &&
    privacy?.at !== 'coordinator' &&
    (weighting === 'equal' || weightCap !== null);
  return robustSchema.parse({ rule: isPossible ? 'norm-bound' : 'mean' });
}

/**
 * Class means where they can do something for the run: the classifier travels, no noise as large as an update drowns them, and
 * a round can be spared.
 */
function defaultHeadStart(settings: RunSettings): NonNullable<RunConfig['headStart']> {
  const { localHead, privacy, rounds } = { ...presets, ...settings };
  const isNoisy = privacy !== null && privacy.noiseMultiplier > 0;
  const isSpared = rounds > Math.max(1, fixedRounds({ ...presets, ...settings }));
  return localHead || isNoisy || !isSpared ? 'random' : 'prototypes';
}

/** What a setting is where nobody says anything. */
const presets = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });

/** Rounds of the schedule that have a stage of their own. */
function fixedRounds(config: Pick<RunConfig, FixedStage | 'strategy' | 'freezeA'>): number {
  if (!getStrategy(config.strategy).traits(config).anneals) return 0;
  return config.initiatingRounds + config.heatingRounds + config.coolingRounds;
}

type FixedStage = 'initiatingRounds' | 'heatingRounds' | 'coolingRounds';

/** Sites that a robust rule needs; {@link refuseCombinations} refuses a lower quorum. */
function robustQuorum(robust: RunSettings['robust']): number {
  switch (robust?.rule) {
    case 'multi-krum':
      return krumQuorum(robust.byzantine);
    case 'trimmed-mean':
      return Math.ceil(1 / robust.share - 1e-9);
    default:
      return fewestForProtection;
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
  const fixed = fixedRounds(config);
  const preparing = preparingRounds(config);
  if (fixed > config.rounds - preparing) {
    const first = preparing === 0 ? '' : ' and the start of the classifier one';
    throw invalid(
      `Initiating, heating and cooling take ${plural(fixed, 'round')}${first}, but the run has only ${config.rounds}.`,
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
  const { privacy } = config;
  const strategy = getStrategy(config.strategy);
  const rounds = Array.from({ length: config.rounds }, (_, round) => strategy.configureTrain(config, round));
  const sendsAll = rounds.some(({ mode }) => mode === 'full');
  if (privacy === null || privacy.noiseMultiplier === 0 || !sendsAll) return;
  if (statisticWeights(base, [...base.weights.keys()]).size === 0) return;
  throw invalid(
    'The setting "privacy" cannot be combined with full weights on this base model: noise would be added to the means and variances of its batch normalisations, which are not a result of training.',
    'Choose a strategy that sends LoRA factors, an "initiatingMode" of lora or last-k, or a base model without batch normalisation.',
  );
}
