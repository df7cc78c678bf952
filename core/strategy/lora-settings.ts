/** Rank and scale of each adapted layer in a round, from the settings of a run; words are those of PEFT. */
import type { LoraSettings } from '../config/lora-settings.ts';
import { compilePatternTable, longestKeyFirst } from '../lora/module-pattern.ts';
import type { BaseModel } from '../models/base-model.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { AppError } from '../shared/errors.ts';

/** s of ΔW = s·B·A for a module at a rank. */
export type LayerScale = (module: string, r: number) => number;

type RankSettings = Pick<LoraSettings, 'rMax' | 'rankPattern'>;
type ScaleSettings = Pick<LoraSettings, 'loraScaling' | 'loraScale' | 'loraAlpha' | 'alphaPattern'>;

/**
 * Rank of each module in a round whose planned rank is `rank`. A layer with an entry p in `rankPattern` gets
 * p · rank / rMax, rounded, at least 1: it shrinks with the others and never grows. The entry with the longest key
 * counts. A layer too small for its rank gets its smaller side instead, which is left to the caller.
 * @throws AppError CONFIG_INVALID when a key of the pattern cannot be read
 */
export function layerRanks(settings: RankSettings, rank: number): (module: string) => number {
  const { rMax, rankPattern } = settings;
  if (rank === 0 || rankPattern === undefined) return () => rank;
  const highest = compilePatternTable(longestKeyFirst(rankPattern), 'rankPattern');
  return (module) => {
    const own = highest(module);
    return own === undefined ? rank : Math.max(1, Math.round((own * rank) / rMax));
  };
}

/** The highest rank that any layer of a run can have. */
export function highestRank({ rMax, rankPattern = {} }: RankSettings): number {
  return Math.max(rMax, ...Object.values(rankPattern));
}

/** @throws AppError CONFIG_INVALID when alpha is missing or a key of the pattern cannot be read */
export function layerScales(settings: ScaleSettings): LayerScale {
  const { loraScaling = 'fixed', loraScale, loraAlpha, alphaPattern = {} } = settings;
  if (loraScaling === 'fixed') return () => loraScale;
  if (loraAlpha === undefined) {
    throw new AppError('CONFIG_INVALID', `The scaling "${loraScaling}" needs the setting "loraAlpha".`);
  }
  const alphaOf = compilePatternTable(longestKeyFirst(alphaPattern), 'alphaPattern');
  return (module, r) => {
    const alpha = alphaOf(module) ?? loraAlpha;
    // A layer without factors yet has a scale, too; it is replaced with the first factors.
    const size = Math.max(1, r);
    return alpha / (loraScaling === 'alpha' ? size : Math.sqrt(size));
  };
}

/**
 * Checks that the settings fit each other and the base model.
 * @throws AppError CONFIG_INVALID naming the setting
 */
export function checkLoraSettings(settings: LoraSettings, base: BaseModel): void {
  const layers = resolveTargetModules(base, settings.targetModules, settings.excludeModules);
  const tables = { rankPattern: settings.rankPattern, alphaPattern: settings.alphaPattern };
  for (const [what, table] of Object.entries(tables)) {
    for (const key of Object.keys(table ?? {})) {
      const matches = compilePatternTable([[key, true]], what);
      if (layers.some((layer) => matches(layer.module))) continue;
      throw new AppError('CONFIG_INVALID', `No adapted layer matches "${key}" of the setting "${what}".`);
    }
  }
  if (settings.alphaPattern !== undefined && (settings.loraScaling ?? 'fixed') === 'fixed') {
    throw new AppError(
      'CONFIG_INVALID',
      'The setting "alphaPattern" needs the scaling "alpha" or "rslora"; with "fixed", alpha has no effect.',
    );
  }
  layerScales(settings);
}
