/** Options of `anneal coordinator run`: those that decide what travels, and how updates are weighed, merged and protected. */
import type { Command } from 'commander';
import { loraScalingSchema } from '../config/lora-settings.ts';
import { privacySchema, robustSchema, serverOptimiserSchema } from '../config/round-options.ts';
import { runConfigSchema } from '../config/run-config.ts';
import { parseRunSettings, type RunSettings } from '../coordinator/run-settings.ts';
import { readList, readNumber, readNumberTable, readWholeNumber } from './arguments.ts';
import { addTrafficOptions, choice, readTrafficSettings, type TrafficOptions } from './run-options.ts';

const optimisers = serverOptimiserSchema.options.map((option) => option.shape.kind.value);
const robustRules = robustSchema.options.map((option) => option.shape.rule.value);
const { shape } = runConfigSchema;

/** Reads them back with {@link readStartSettings}. */
export function addStartOptions(command: Command): Command {
  return addTrafficOptions(command)
    .option(
      '--classes <list>',
      'class names, separated by commas, as they stand in the label columns',
      readList,
    )
    .option('--base <id>', 'base model, see "anneal models list"; all sites must have it')
    .addOption(choice('--lora-scaling <name>', 'how factors are scaled', loraScalingSchema.options))
    .option('--lora-scale <number>', 'scale of the factors (scaling fixed)', readNumber)
    .option('--lora-alpha <number>', 'alpha (scalings alpha and rslora)', readNumber)
    .option('--alpha-pattern <table>', 'other alphas for some layers: name=alpha,...', readNumberTable)
    .option('--lora-dropout <share>', 'share of the values dropped before the factors', readNumber)
    .option('--epochs <number>', 'how often a site goes through its images in a round', readWholeNumber)
    .option('--batch-size <number>', 'images in a step of training', readWholeNumber)
    .option(
      '--proximal <number>',
      'pull towards the global state (initiating stage, fedprox-full)',
      readNumber,
    )
    .addOption(
      choice('--allocation <name>', 'how ranks are spread over layers', shape.allocation.unwrap().options),
    )
    .addOption(choice('--weighting <name>', 'what an update weighs', shape.weighting.unwrap().options))
    .addOption(choice('--server-optimiser <name>', "what is done with a round's merged change", optimisers))
    .option('--server-learning-rate <number>', 'its learning rate', readNumber)
    .option('--server-momentum <number>', 'its beta (momentum) or first beta (adam)', readNumber)
    .option('--error-feedback', 'what rounding took from an update is added to the next one')
    .addOption(
      choice('--privacy <where>', 'clip changes and add noise: where', privacySchema.shape.at.options),
    )
    .option('--clip-norm <number>', 'largest L2 norm of a change (privacy)', readNumber)
    .option('--noise-multiplier <number>', 'noise as a multiple of the clipping norm (privacy)', readNumber)
    .option('--delta <number>', 'δ for which ε is reported (privacy)', readNumber)
    .addOption(choice('--robust <rule>', 'how updates that may be hostile are merged', robustRules))
    .option('--robust-factor <number>', 'times the median norm that is allowed (norm-bound)', readNumber)
    .option('--trim-share <share>', 'left out at either end (trimmed-mean)', readNumber)
    .option('--byzantine <number>', 'hostile sites that are reckoned with (multi-krum)', readWholeNumber)
    .option('--seed <number>', 'seed', readWholeNumber);
}

/** Values of {@link addStartOptions} as commander gives them. */
export interface StartOptions extends TrafficOptions {
  base?: string;
}

/** From option to setting, path by path. */
const plainSettings: Readonly<Record<string, readonly string[]>> = {
  classes: ['classes'],
  base: ['baseId'],
  loraScaling: ['loraScaling'],
  loraScale: ['loraScale'],
  loraAlpha: ['loraAlpha'],
  alphaPattern: ['alphaPattern'],
  loraDropout: ['training', 'loraDropout'],
  epochs: ['training', 'epochs'],
  batchSize: ['training', 'batchSize'],
  proximal: ['proximal'],
  allocation: ['allocation'],
  weighting: ['weighting'],
  serverOptimiser: ['serverOptimiser', 'kind'],
  serverLearningRate: ['serverOptimiser', 'learningRate'],
  errorFeedback: ['wire', 'errorFeedback'],
  privacy: ['privacy', 'at'],
  clipNorm: ['privacy', 'clipNorm'],
  noiseMultiplier: ['privacy', 'noiseMultiplier'],
  delta: ['privacy', 'delta'],
  robust: ['robust', 'rule'],
  robustFactor: ['robust', 'factor'],
  trimShare: ['robust', 'share'],
  byzantine: ['robust', 'byzantine'],
  seed: ['seed'],
};

/**
 * The file of `--config`, overruled by the options that were given.
 * @throws AppError NOT_FOUND | CONFIG_INVALID naming file, option or setting
 */
export async function readStartSettings(options: StartOptions): Promise<RunSettings> {
  const settings: Record<string, unknown> = { ...(await readTrafficSettings(options)) };
  // Another kind or rule than the file's has other settings beside it.
  if (options['serverOptimiser'] !== undefined) delete settings['serverOptimiser'];
  if (options['robust'] !== undefined) delete settings['robust'];
  for (const [option, path] of Object.entries(plainSettings)) {
    if (options[option] !== undefined) setAt(settings, path, options[option]);
  }
  const momentum = options['serverMomentum'];
  if (momentum !== undefined) {
    const isAdam = (settings['serverOptimiser'] as { kind?: unknown } | undefined)?.kind === 'adam';
    setAt(settings, ['serverOptimiser', isAdam ? 'beta1' : 'beta'], momentum);
  }
  return parseRunSettings(settings, 'The command');
}

/** Sets a value of a setting or of a group of settings; groups are copied, not changed. */
function setAt(
  settings: Record<string, unknown>,
  [key = '', inner]: readonly string[],
  value: unknown,
): void {
  settings[key] = inner === undefined ? value : { ...(settings[key] as object | null), [inner]: value };
}
