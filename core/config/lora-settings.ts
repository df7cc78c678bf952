/** Which layers get LoRA factors, how many and how scaled; words are those of Hugging Face PEFT. */
import { z } from 'zod';

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
