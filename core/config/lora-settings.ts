/** Which layers get LoRA factors, how many and how scaled; words are those of Hugging Face PEFT. */
import { z } from 'zod';
import { choice, grouped, setting, strategiesThat } from './setting.ts';

export const maxRank = 256;

export const rankSchema = z.int().min(1).max(maxRank);
const modulesSchema = z.union([
  z.string().min(1).max(1000),
  z.array(z.string().min(1).max(1000)).min(1).max(10_000),
]);
const scaleSchema = z.number().positive().max(1e6);
/** Keys are module names, their last parts, or regular expressions for either. */
const patternTable = (value: z.ZodNumber) =>
  z
    .record(z.string().min(1).max(1000), value)
    .refine((table) => Object.keys(table).length <= 1000, 'has too many entries');

const adapter = { for: strategiesThat.haveFactors };
const fixed = { ...adapter, when: ['loraScaling', 'undefined', 'fixed'] } as const;
const byAlpha = { ...adapter, when: ['loraScaling', 'alpha', 'rslora'] } as const;
const rank = { group: 'Schedule', slider: [1, 64] } as const;

/** Settings of a run that say which layers get factors, how many and how scaled. Absent ones change nothing. */
export const loraSettingsShape = grouped('Adapter', {
  rMax: setting('Largest rank. Where the schedule starts.', rankSchema.default(16), { ...rank, ...adapter }),
  rMin: setting('Smallest rank. Where the schedule ends.', rankSchema.default(2), {
    ...rank,
    for: strategiesThat.anneal,
  }),
  /** See core/models/target-modules. */
  targetModules: setting(
    'Layers with an adapter. A preset, layer names or their last parts, or one regular expression.',
    modulesSchema.default('default'),
    adapter,
  ),
  excludeModules: setting(
    'Layers without an adapter. Exceptions to the layers with one.',
    modulesSchema.exactOptional(),
    adapter,
  ),
  rankPattern: setting(
    'Largest ranks of individual layers. The schedule scales them as it scales the largest rank.',
    patternTable(rankSchema).exactOptional(),
    adapter,
  ),
  /** `rslora`: Kalajdzievski 2023, arXiv 2312.03732. */
  loraScaling: setting(
    'Scaling of the adapter. The scale s in ΔW = s·B·A at rank r; "alpha" works as in PEFT.',
    choice({ fixed: 'Fixed', alpha: 'alpha / r', rslora: 'alpha / √r (rsLoRA)' }).exactOptional(),
    { ...adapter, none: 'Fixed' },
  ),
  loraScale: setting('Scale of the adapter. The same at every rank.', scaleSchema.default(2), fixed),
  loraAlpha: setting(
    'Alpha of the adapter. The scalings "alpha" and "rslora" use it.',
    scaleSchema.exactOptional(),
    byAlpha,
  ),
  alphaPattern: setting(
    'Alphas of individual layers. Where they differ.',
    patternTable(scaleSchema).exactOptional(),
    byAlpha,
  ),
});
const loraSettingsSchema = z.object(loraSettingsShape);
export type LoraSettings = z.infer<typeof loraSettingsSchema>;
