/** Which layers get LoRA factors. */
import {
  compileModuleSelector,
  compilePatternTable,
  endsWithName,
  longestKeyFirst,
  type ModuleSelector,
} from '../lora/module-pattern.ts';
import { AppError } from '../shared/errors.ts';
import type { AdaptableLayer, BaseModel } from './base-model.ts';

/** Sets of layers that every base has, if it has such layers. */
const commonPresets: Readonly<Record<string, (layer: AdaptableLayer) => boolean>> = {
  all: () => true,
  'all-linear': (layer) => layer.kind === 'linear',
  conv: (layer) => layer.kind === 'conv',
};

/** A name of a module or its last parts; anything else that is no preset is a regular expression. */
const plainName = /^[\w.-]+$/;

type Adaptable = Pick<BaseModel, 'id' | 'layers' | 'presets'>;

/**
 * The layers that `targetModules` stands for, in the base model's order: a preset's name; a list of module names, of
 * which the last parts are enough (`attn.q`); one such name; or a regular expression that matches whole names.
 * @param excludeModules names or an expression of layers to leave out; those that match nothing are no error
 * @throws AppError CONFIG_INVALID when a name or an expression stands for no layer, or no layer is left
 */
export function resolveTargetModules(
  base: Adaptable,
  targetModules: ModuleSelector,
  excludeModules?: ModuleSelector,
): AdaptableLayer[] {
  const chosen = chooseLayers(base, targetModules);
  if (excludeModules === undefined) return chosen;
  const isExcluded = compileModuleSelector(asList(excludeModules), 'excludeModules');
  const left = chosen.filter((layer) => !namesOf(layer).some(isExcluded));
  if (left.length === 0) throw unknown(base, 'The setting "excludeModules" leaves no layer to adapt.');
  return left;
}

/** Names of the sets of layers that {@link resolveTargetModules} knows for a base. */
export function presetNames(base: Adaptable): string[] {
  const common = Object.keys(commonPresets).filter((name) => base.layers.some(commonPresets[name]!));
  return [...new Set([...Object.keys(base.presets), ...common])];
}

/**
 * Settings that name layers as the base model's file does, by the names that all sites have: theirs may be other files.
 * @throws AppError CONFIG_INVALID as {@link resolveTargetModules}
 */
export function withSharedNames<T extends LayerSettings>(base: Adaptable, settings: T): T {
  if (base.layers.every((layer) => namesOf(layer).length === 1)) return settings;
  const { targetModules, excludeModules, rankPattern, alphaPattern } = settings;
  const isPreset =
    typeof targetModules === 'string' &&
    [base.presets, commonPresets].some((presets) => Object.hasOwn(presets, targetModules));
  const shared = (selector: ModuleSelector) => chooseLayers(base, selector).map(({ module }) => module);
  return {
    ...settings,
    ...(targetModules === undefined || isPreset ? {} : { targetModules: shared(targetModules) }),
    ...(excludeModules === undefined ? {} : { excludeModules: excluded(base, excludeModules) }),
    ...(rankPattern === undefined ? {} : { rankPattern: patternByModule(base, rankPattern, 'rankPattern') }),
    ...(alphaPattern === undefined
      ? {}
      : { alphaPattern: patternByModule(base, alphaPattern, 'alphaPattern') }),
  };
}

interface LayerSettings {
  readonly targetModules?: string | string[] | undefined;
  readonly excludeModules?: string | string[] | undefined;
  readonly rankPattern?: Record<string, number> | undefined;
  readonly alphaPattern?: Record<string, number> | undefined;
}

/** A selector that excludes nothing stays as it is: an empty list is no setting. */
function excluded(base: Adaptable, selector: string | string[]): string | string[] {
  const isExcluded = compileModuleSelector(asList(selector), 'excludeModules');
  const modules = base.layers.filter((layer) => namesOf(layer).some(isExcluded)).map(({ module }) => module);
  return modules.length === 0 ? selector : modules;
}

function patternByModule(
  base: Adaptable,
  table: Record<string, number>,
  what: string,
): Record<string, number> {
  const find = compilePatternTable(longestKeyFirst(table), what);
  const found = base.layers.flatMap((layer) => {
    const value = namesOf(layer)
      .map(find)
      .find((each) => each !== undefined);
    return value === undefined ? [] : [[layer.module, value] as const];
  });
  return found.length === 0 ? table : Object.fromEntries(found);
}

function chooseLayers(base: Adaptable, targetModules: ModuleSelector): AdaptableLayer[] {
  if (typeof targetModules !== 'string') return byNames(base, targetModules);
  if (Object.hasOwn(base.presets, targetModules))
    return byNames(base, base.presets[targetModules]!, isExactly);
  if (Object.hasOwn(commonPresets, targetModules)) {
    const layers = base.layers.filter(commonPresets[targetModules]!);
    if (layers.length > 0) return layers;
  } else if (plainName.test(targetModules)) {
    const layers = base.layers.filter((layer) => hasName(layer, targetModules));
    if (layers.length > 0) return layers;
  } else {
    const matches = compileModuleSelector(targetModules, 'targetModules');
    const layers = base.layers.filter((layer) => namesOf(layer).some(matches));
    if (layers.length > 0) return layers;
    throw unknown(base, `No layer of the base model ${base.id} matches the pattern "${targetModules}".`);
  }
  const known = presetNames(base).join(', ');
  throw unknown(
    base,
    `The base model ${base.id} has no layer and no set of modules "${targetModules}"; its sets are ${known}.`,
  );
}

/** What a person may call a layer: by its name in a run, and by that in the base model's own file. */
const namesOf = ({ module, peftModule, peftPart }: AdaptableLayer): string[] =>
  peftModule === undefined || peftPart !== undefined ? [module] : [module, peftModule];

const hasName = (layer: AdaptableLayer, name: string) =>
  namesOf(layer).some((own) => endsWithName(own, name));
const isExactly = ({ module }: AdaptableLayer, name: string) => module === name;

function byNames(
  base: Adaptable,
  names: readonly string[],
  matches: (layer: AdaptableLayer, name: string) => boolean = hasName,
): AdaptableLayer[] {
  const unused = new Set(names);
  const layers = base.layers.filter((layer) => {
    const found = names.filter((name) => matches(layer, name));
    for (const name of found) unused.delete(name);
    return found.length > 0;
  });
  const [first] = unused;
  if (first !== undefined)
    throw unknown(base, `The base model ${base.id} has no module "${first}" that LoRA can adapt.`);
  if (layers.length === 0) throw unknown(base, 'The setting "targetModules" names no layer to adapt.');
  return layers;
}

/** One name is a list of one; PEFT would read it as an expression, in which the full stop means any character. */
function asList(selector: ModuleSelector): ModuleSelector {
  return typeof selector === 'string' && plainName.test(selector) ? [selector] : selector;
}

function unknown(base: Adaptable, message: string): AppError {
  const examples = [base.layers[0], base.layers.at(-1)].map(
    (layer) => (layer && namesOf(layer).at(-1)) ?? 'none',
  );
  return new AppError('CONFIG_INVALID', message, {
    action: `Name a set of modules, or layers such as ${[...new Set(examples)].join(' and ')}.`,
  });
}
