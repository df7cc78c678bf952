/** Which layers get LoRA factors. */
import { AppError } from '../shared/errors.ts';
import type { AdaptableLayer, BaseModel } from './base-model.ts';

/**
 * The layers that a preset's name or a list of module names stands for, in the base model's order.
 * @throws AppError CONFIG_INVALID when the preset or a module is unknown
 */
export function resolveTargetModules(
  base: BaseModel,
  targetModules: string | readonly string[],
): AdaptableLayer[] {
  const names = typeof targetModules === 'string' ? base.presets[targetModules] : targetModules;
  if (!names) {
    const known = Object.keys(base.presets).join(', ');
    throw new AppError(
      'CONFIG_INVALID',
      `The base model ${base.id} has no set of modules "${String(targetModules)}"; it has ${known}.`,
    );
  }
  const wanted = new Set(names);
  const layers = base.layers.filter((layer) => wanted.delete(layer.module));
  if (wanted.size > 0) {
    throw new AppError(
      'CONFIG_INVALID',
      `The base model ${base.id} has no module "${[...wanted][0]}" that LoRA can adapt.`,
    );
  }
  return layers;
}
