/** Which layers get LoRA factors. */
import { compileModuleSelector, endsWithName, type ModuleSelector } from '../lora/module-pattern.ts';
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
  const left = chosen.filter((layer) => !isExcluded(layer.module));
  if (left.length === 0) throw unknown(base, 'The setting "excludeModules" leaves no layer to adapt.');
  return left;
}

/** Names of the sets of layers that {@link resolveTargetModules} knows for a base. */
export function presetNames(base: Adaptable): string[] {
  const common = Object.keys(commonPresets).filter((name) => base.layers.some(commonPresets[name]!));
  return [...new Set([...Object.keys(base.presets), ...common])];
}

function chooseLayers(base: Adaptable, targetModules: ModuleSelector): AdaptableLayer[] {
  if (typeof targetModules !== 'string') return byNames(base, targetModules);
  if (Object.hasOwn(base.presets, targetModules))
    return byNames(base, base.presets[targetModules]!, isExactly);
  if (Object.hasOwn(commonPresets, targetModules)) {
    const layers = base.layers.filter(commonPresets[targetModules]!);
    if (layers.length > 0) return layers;
  } else if (plainName.test(targetModules)) {
    const layers = base.layers.filter((layer) => endsWithName(layer.module, targetModules));
    if (layers.length > 0) return layers;
  } else {
    const matches = compileModuleSelector(targetModules, 'targetModules');
    const layers = base.layers.filter((layer) => matches(layer.module));
    if (layers.length > 0) return layers;
    throw unknown(base, `No layer of the base model ${base.id} matches the pattern "${targetModules}".`);
  }
  const known = presetNames(base).join(', ');
  throw unknown(
    base,
    `The base model ${base.id} has no layer and no set of modules "${targetModules}"; its sets are ${known}.`,
  );
}

const isExactly = (module: string, name: string) => module === name;

function byNames(
  base: Adaptable,
  names: readonly string[],
  matches: (module: string, name: string) => boolean = endsWithName,
): AdaptableLayer[] {
  const unused = new Set(names);
  const layers = base.layers.filter(({ module }) => {
    const found = names.filter((name) => matches(module, name));
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
  const examples = [base.layers[0], base.layers.at(-1)].map((layer) => layer?.module ?? 'none');
  return new AppError('CONFIG_INVALID', message, {
    action: `Name a set of modules, or layers such as ${[...new Set(examples)].join(' and ')}.`,
  });
}
