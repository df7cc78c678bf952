/** Options of a command that say what a run does, made from the settings themselves, and the file that may hold them. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import { wirePrecisionSchema } from '../config/round-options.ts';
import { type RunSettings, runSettingList } from '../config/run-config.ts';
import { isChosen, type Setting, type SettingKind, strategyNameSchema } from '../config/setting.ts';
import { parseRunSettings } from '../coordinator/run-settings.ts';
import { AppError } from '../shared/errors.ts';
import { readList, readModules, readNumber, readNumberTable, readWholeNumber } from './arguments.ts';

const precisions: readonly string[] = wirePrecisionSchema.options;

/** `int8` for both directions, `int8/fp16` for updates and global states. */
function readWire(text: string): { up: string; down: string } {
  const [up = '', down = up, ...rest] = text.split('/');
  if (rest.length === 0 && precisions.includes(up) && precisions.includes(down)) return { up, down };
  throw new InvalidArgumentError(`Give one of ${precisions.join(', ')}, or two as up/down.`);
}

const readers: Readonly<Record<SettingKind, readonly [argument: string, read?: (text: string) => unknown]>> =
  {
    number: [' <number>', readNumber],
    integer: [' <number>', readWholeNumber],
    choice: [' <name>'],
    list: [' <name,...>', readList],
    names: [' <names>', readModules],
    table: [' <name=number,...>', readNumberTable],
    text: [' <text>'],
    switch: [''],
  };

/** `training.batchSize` → `batch-size` */
export function flagOf(path: string): string {
  return path.replace(/.*\./, '').replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
}

/** Settings by the flag that sets them; branches of a choice share one, such as `--server-learning-rate`. */
const byFlag = Map.groupBy(
  runSettingList.filter(({ flag }) => flag !== null),
  ({ flag, path }) => flag ?? flagOf(path),
);

function optionOf(flag: string, { kind, label, help, choices, group, for: strategies }: Setting): Option {
  const [argument, read] = readers[kind];
  const text = `${lowered(label)}: ${lowered(help).replace(/\.$/, '')}${onlyFor(strategies)}`;
  const option = new Option(`--${flag}${argument}`, text);
  option.helpGroup(`${group}:`);
  if (read !== undefined) option.argParser(read);
  return kind === 'choice' ? option.choices(Object.keys(choices!)) : option;
}

/** No capital, unless it is a name's: "AdamW" stays. */
const lowered = (text: string) => text.replace(/^[A-Z](?=[a-z]*\b)/, (capital) => capital.toLowerCase());

/** ` (sa-fedlora only)`, ` (not head-only)` */
function onlyFor(strategies: Setting['for']): string {
  if (strategies === undefined) return '';
  const others = strategyNameSchema.options.filter((name) => !strategies.includes(name));
  if (others.length < strategies.length) return ` (not ${others.join(', ')})`;
  return ` (${strategies.join(', ')} only)`;
}

/** Reads them back with {@link readRunOptions}. @param own flags that the command has itself */
export function addRunOptions(command: Command, own: readonly string[] = []): Command {
  const from = 'run settings as YAML or JSON; options on the command line override them';
  command.option('--config <file>', from);
  for (const [flag, [setting]] of byFlag) {
    if (!own.includes(flag)) command.addOption(optionOf(flag, setting!));
    if (flag !== 'error-feedback') continue;
    const wire = new Option(
      '--wire <precision>',
      'precision of the numbers that travel: fp32, fp16 or int8, or up/down',
    );
    command.addOption(wire.argParser(readWire).helpGroup(`${setting!.group}:`));
  }
  return command;
}

/** Values of {@link addRunOptions} as commander gives them. */
export interface RunOptions {
  config?: string;
  [option: string]: unknown;
}

/**
 * The file of `--config`, overruled by the options that were given.
 * @throws AppError NOT_FOUND | CONFIG_INVALID naming file, option or setting
 */
export async function readRunOptions(options: RunOptions): Promise<RunSettings> {
  const written = options.config === undefined ? {} : await readSettingsFile(options.config);
  if (options.config !== undefined) parseRunSettings(written, basename(options.config));
  const settings = structuredClone(written);
  if (options['wire'] !== undefined) settings['wire'] = Object.assign({}, settings['wire'], options['wire']);
  for (const [flag, candidates] of byFlag) {
    const value = options[flag.replace(/-(.)/g, (_dash, letter: string) => letter.toUpperCase())];
    if (value === undefined) continue;
    const { path, schema } = candidates.find((setting) => isChosen(setting, settings)) ?? candidates[0]!;
    const [key = '', inner] = path.split('.');
    if (inner === undefined) settings[key] = value;
    // Another kind or rule than the file's has other settings beside it.
    else
      settings[key] = {
        ...(schema._zod.def.type === 'union' ? {} : (settings[key] as object)),
        [inner]: value,
      };
  }
  return parseRunSettings(settings, 'The command');
}

async function readSettingsFile(path: string): Promise<Record<string, unknown>> {
  const name = basename(path);
  const text = await readFile(path, 'utf8').catch((cause) => {
    throw new AppError('NOT_FOUND', `The settings file "${name}" cannot be read.`, {
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
    throw new AppError('CONFIG_INVALID', `${name}${at}: this is not valid YAML.`, {
      action: 'Correct the file; docs/coordinator.md has an example.',
      cause,
    });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new AppError('CONFIG_INVALID', `${name}: expected named settings.`, {
    action: 'Correct the file; docs/coordinator.md has an example.',
  });
}
