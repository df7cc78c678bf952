/** Options of a command that say what a run does, and the file that may hold them. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import { wirePrecisionSchema } from '../config/round-options.ts';
import { runConfigSchema } from '../config/run-config.ts';
import { parseRunSettings, type RunSettings } from '../coordinator/run-settings.ts';
import { AppError } from '../shared/errors.ts';
import { readModules, readNumber, readNumberTable, readWholeNumber } from './arguments.ts';

const { shape } = runConfigSchema;
const precisions: readonly string[] = wirePrecisionSchema.options;

/** `int8` for both directions, `int8/fp16` for updates and global states. */
function readWire(text: string): { up: string; down: string } {
  const [up = '', down = up, ...rest] = text.split('/');
  if (rest.length === 0 && precisions.includes(up) && precisions.includes(down)) return { up, down };
  throw new InvalidArgumentError(`Give one of ${precisions.join(', ')}, or two as up/down.`);
}

/** An option with one of these words. */
export const choice = (flags: string, description: string, options: readonly string[]): Option =>
  new Option(flags, description).choices([...options]);

/** Settings that decide what travels; others stand in the file of `--config`. */
export function addTrafficOptions(command: Command): Command {
  return command
    .option('--config <file>', 'settings of the run as YAML or JSON; options given here come before those')
    .addOption(choice('--strategy <name>', 'method', shape.strategy.options))
    .option('--rounds <number>', 'rounds', readWholeNumber)
    .option('--initiating-rounds <number>', 'rounds of the initiating stage', readWholeNumber)
    .addOption(
      choice(
        '--initiating-mode <mode>',
        'what trains in it: lora, full, last-k',
        shape.initiatingMode.options,
      ),
    )
    .option('--last-k <number>', 'blocks that train with the mode last-k', readWholeNumber)
    .option('--heating-rounds <number>', 'rounds at the largest rank', readWholeNumber)
    .option('--cooling-rounds <number>', 'rounds at the smallest rank', readWholeNumber)
    .addOption(choice('--schedule <shape>', 'how the rank falls in between', shape.shape.options))
    .addOption(
      choice(
        '--cut-off <what>',
        'what becomes of what a falling rank cuts off',
        shape.cutOff.unwrap().options,
      ),
    )
    .option('--freeze-a', 'factors A stay as drawn (sa-fedlora): only B trains and travels')
    .option('--r-max <number>', 'largest rank', readWholeNumber)
    .option('--r-min <number>', 'smallest rank', readWholeNumber)
    .option('--target-modules <names>', 'layers that get LoRA factors', readModules)
    .option('--exclude-modules <names>', 'layers of these that get none', readModules)
    .option('--rank-pattern <table>', 'other highest ranks for some layers: name=rank,...', readNumberTable)
    .option('--site-ranks <table>', 'highest ranks of single sites: name=rank,...', readNumberTable)
    .option('--participation <share>', 'share of the sites that train in a round', readNumber)
    .option('--quorum <number>', 'sites needed to close a round', readWholeNumber)
    .option('--local-head', 'each site keeps a classification head of its own')
    .option('--wire <precision>', 'numbers as they travel: fp32, fp16, int8, or up/down', readWire);
}

/** Values of {@link addTrafficOptions} as commander gives them. */
export interface TrafficOptions {
  config?: string;
  [option: string]: unknown;
}

/** Option names that are the settings' own, but for these. */
const settingOf: Readonly<Record<string, string>> = { schedule: 'shape' };
const names = [
  ...['strategy', 'rounds', 'initiatingRounds', 'initiatingMode', 'lastK', 'heatingRounds', 'coolingRounds'],
  ...['schedule', 'cutOff', 'freezeA', 'rMax', 'rMin'],
  ...['targetModules', 'excludeModules', 'rankPattern', 'siteRanks'],
  ...['participation', 'quorum', 'localHead', 'wire'],
];

/**
 * The file of `--config`, overruled by the options that were given.
 * @throws AppError NOT_FOUND | CONFIG_INVALID naming file and setting
 */
export async function readTrafficSettings(options: TrafficOptions): Promise<RunSettings> {
  const written = options.config === undefined ? {} : await readSettingsFile(options.config);
  const given: Record<string, unknown> = { ...written };
  for (const name of names) {
    if (options[name] === undefined) continue;
    const key = settingOf[name] ?? name;
    const nested = key === 'wire' ? { ...(written['wire'] as object | undefined) } : undefined;
    given[key] = nested === undefined ? options[name] : { ...nested, ...(options[name] as object) };
  }
  return parseRunSettings(given, options.config === undefined ? 'The command' : basename(options.config));
}

async function readSettingsFile(path: string): Promise<Record<string, unknown>> {
  const name = basename(path);
  const text = await readFile(path, 'utf8').catch((cause) => {
    throw new AppError('NOT_FOUND', `The settings "${name}" cannot be read.`, {
      action: 'Give a YAML or JSON file with --config.',
      cause,
    });
  });
  let value: unknown;
  try {
    // JSON is YAML, too. Aliases could unfold to more than memory holds.
    value = parseYaml(text, { maxAliasCount: 0 });
  } catch (cause) {
    const where = (cause as { linePos?: { line: number }[] }).linePos?.[0]?.line;
    const at = where === undefined ? '' : `, line ${where}`;
    throw new AppError('CONFIG_INVALID', `${name}${at}: this is not YAML.`, {
      action: 'Correct the file; docs/coordinator.md has an example.',
      cause,
    });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new AppError('CONFIG_INVALID', `${name}: expected settings with their names.`, {
    action: 'Correct the file; docs/coordinator.md has an example.',
  });
}
