/** Rank and scale of each adapted layer in a round, from the settings of a run; words are those of PEFT. */
import { z } from 'zod';
import { compilePatternTable, longestKeyFirst, type ModuleSelector } from '../lora/module-pattern.ts';
import type { BaseModel } from '../models/base-model.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { AppError } from '../shared/errors.ts';

export const maxRank = 256;

const moduleSelectorSchema = z.union([
  z.string().min(1).max(1000),
  z.array(z.string().min(1)).min(1).max(10_000),
]);
/** Keys are module names, their last parts, or regular expressions for either. */
const patternTable = <T extends z.ZodType>(value: T) =>
  z
    .record(z.string().min(1), value)
    .refine((table) => Object.keys(table).length <= 1000, 'has too many entries');

/**
 * `fixed`: s is `loraScale` at every rank. `alpha`: s = alpha / r, as in the LoRA paper and PEFT's default.
 * `rslora`: s = alpha / √r (Kalajdzievski 2023, arXiv 2312.03732).
 */
export const loraScalingSchema = z.enum(['fixed', 'alpha', 'rslora']);
export type LoraScaling = z.infer<typeof loraScalingSchema>;

/** Settings of a run that say which layers get factors, how many and how scaled. Absent ones change nothing. */
export const loraSettingsShape = {
  /** A preset's name, module names or their last parts, or one regular expression; see core/models/target-modules. */
  targetModules: moduleSelectorSchema,
  /** Layers of `targetModules` that get no factors. */
  excludeModules: moduleSelectorSchema.optional(),
  rMax: z.number().int().min(1).max(maxRank),
  rMin: z.number().int().min(1).max(maxRank),
  /** Highest ranks of layers that differ from `rMax`. The schedule scales them as it scales `rMax`. */
  rankPattern: patternTable(z.number().int().min(1).max(maxRank)).optional(),
  loraScaling: loraScalingSchema.optional(),
  /** Scale s of ΔW = s·B·A, the same at every rank; for the scaling `fixed`. */
  loraScale: z.number().positive(),
  /** For the scalings `alpha` and `rslora`. */
  loraAlpha: z.number().positive().optional(),
  /** Layers whose alpha differs from `loraAlpha`. */
  alphaPattern: patternTable(z.number().positive()).optional(),
};
const loraSettingsSchema = z.object(loraSettingsShape);
export type LoraSettings = z.infer<typeof loraSettingsSchema>;

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
      'The setting "alphaPattern" needs the scaling "alpha" or "rslora"; with "fixed" alpha has no meaning.',
    );
  }
  layerScales(settings);
}

/** The layers that a run adapts. @throws AppError CONFIG_INVALID */
export function adaptedLayers(
  {
    targetModules,
    excludeModules,
  }: { targetModules: ModuleSelector; excludeModules?: ModuleSelector | undefined },
  base: BaseModel,
): ReturnType<typeof resolveTargetModules> {
  return resolveTargetModules(base, targetModules, excludeModules);
}
