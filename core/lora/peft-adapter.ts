/**
 * Reads adapters that Hugging Face PEFT wrote in Python, by any recent version. Says what is in the files, by the
 * names of the model in Python; core/models/peft-import.ts finds the layers of a base model for them.
 * Source: PEFT 0.21, `LoraConfig` and `LoraModel`.
 */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { jsonText } from '../shared/text.ts';
import type { LoraLayer } from './model-state.ts';
import { compilePatternTable } from './module-pattern.ts';
import { peftConfigName, peftPrefix, peftWeightsName, readNamed } from './peft-format.ts';
import { decodeSafetensors, invalid } from './safetensors.ts';
import { checkedLayer } from './state-file.ts';

/** An adapter as its files have it. */
export interface PeftAdapter {
  /** What the configuration calls the base model; null when it does not say. */
  readonly baseName: string | null;
  /** By the module's name in Python. */
  readonly layers: ReadonlyMap<string, LoraLayer>;
  /** `modules_to_save` and whatever else is not LoRA, by the tensor's name without PEFT's prefix. */
  readonly others: ReadonlyMap<string, FloatTensor>;
  /** Dropout that it was trained with. */
  readonly loraDropout: number;
}

const maxConfigBytes = 16 * 1024 * 1024;
/** How `init_lora_weights` may start factors without changing the base model's own weights. */
const harmlessStarts: readonly unknown[] = [true, false, 'gaussian', 'orthogonal', 'eva'];
/** Settings of PEFT that add to the network what s·B·A cannot say. */
const foreignSettings: Readonly<Record<string, string>> = {
  use_dora: 'DoRA',
  use_qalora: 'QA-LoRA',
  lora_bias: 'biases on the factors',
  layer_replication: 'replicated layers',
  trainable_token_indices: 'trained tokens',
  target_parameters: 'adapted parameters that are not layers',
  alora_invocation_tokens: 'activated LoRA',
  velora_config: 'VeLoRA',
  monteclora_config: 'MonteCLoRA',
  use_bdlora: 'BD-LoRA',
  arrow_config: 'Arrow',
  kasa_config: 'KaSA',
};

const table = z.record(z.string(), z.number().positive()).nullish();
const configSchema = z.looseObject({
  peft_type: z.string(),
  base_model_name_or_path: z.string().nullish(),
  r: z.number().int().positive().default(8),
  lora_alpha: z.number().positive().default(8),
  rank_pattern: table,
  alpha_pattern: table,
  use_rslora: z.boolean().nullish(),
  bias: z.string().default('none'),
  lora_dropout: z.number().min(0).max(1).default(0),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
});
type PeftConfig = z.infer<typeof configSchema>;

/**
 * @throws AppError MODEL_FILE_INVALID naming the file, the setting or the tensor: files missing or damaged, another
 *   method than LoRA (DoRA, trained biases, …), ranks that disagree, values that are not finite
 */
export async function readPeftAdapter(folder: string): Promise<PeftAdapter> {
  const config = parseConfig(await readNamed(folder, peftConfigName));
  refuseForeign(config);
  const file = decodeSafetensors(await readNamed(folder, peftWeightsName), peftWeightsName);
  const factors = new Map<string, { a?: FloatTensor; b?: FloatTensor }>();
  const others = new Map<string, FloatTensor>();
  for (const [name, tensor] of file.tensors) {
    checkFinite(name, tensor);
    const bare = name.startsWith(peftPrefix) ? name.slice(peftPrefix.length) : null;
    // Some tools keep the adapter's name in the tensor's, as it is in memory.
    const [, module, side] = /^(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(bare ?? '') ?? [];
    if (module !== undefined) {
      factors.set(module, { ...factors.get(module), [side === 'A' ? 'a' : 'b']: tensor });
    } else if (bare === null || /\.(?:lora_\w+|base_layer)(?:\.|$)/.test(bare)) {
      throw invalid(
        peftWeightsName,
        `tensor "${name}" is of a kind that Anneal does not read: expected lora_A and lora_B`,
      );
    } else others.set(bare.replace(/\.modules_to_save\.default\./, '.'), tensor);
  }
  return {
    baseName: config.base_model_name_or_path ?? null,
    layers: scaleLayers(config, factors),
    others,
    loraDropout: config.lora_dropout,
  };
}

function parseConfig(bytes: Buffer): PeftConfig {
  if (bytes.length > maxConfigBytes) throw invalid(peftConfigName, 'it is too long for a configuration');
  const parsed = jsonText.pipe(configSchema).safeParse(bytes.toString('utf8'));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = issue.path.length === 0 ? 'it' : `"${issue.path.join('.')}"`;
  throw invalid(peftConfigName, `${where} is not what PEFT writes (${issue.message})`, parsed.error);
}

function refuseForeign(config: PeftConfig): void {
  const refuse = (what: string) => {
    throw new AppError(
      'MODEL_FILE_INVALID',
      `The adapter uses ${what} (${peftConfigName}), which Anneal cannot read.`,
      {
        action: 'Save it as a plain LoRA adapter, or merge it into the base model in Python and import that.',
      },
    );
  };
  if (config.peft_type !== 'LORA') refuse(`the method ${config.peft_type}`);
  if (config.bias !== 'none') refuse(`trained biases (bias "${config.bias}")`);
  for (const [setting, what] of Object.entries(foreignSettings)) {
    const value = config[setting];
    const isUnset = value === undefined || value === null || value === false;
    const isEmpty = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
    if (!isUnset && !isEmpty) refuse(`${what} (${setting})`);
  }
  const start = config.init_lora_weights ?? true;
  if (!harmlessStarts.includes(start))
    refuse(`init_lora_weights "${start}", which changes the base model's weights`);
}

function scaleLayers(
  config: PeftConfig,
  factors: ReadonlyMap<string, { a?: FloatTensor; b?: FloatTensor }>,
): Map<string, LoraLayer> {
  const rankOf = readTable(config.rank_pattern, 'rank_pattern');
  const alphaOf = readTable(config.alpha_pattern, 'alpha_pattern');
  const layers = new Map<string, LoraLayer>();
  for (const [module, { a, b }] of factors) {
    if (a === undefined || b === undefined) {
      const missing = `${peftPrefix}${module}.lora_${a === undefined ? 'A' : 'B'}.weight`;
      throw invalid(peftWeightsName, `tensor "${missing}" is missing`);
    }
    const r = rankOf(module) ?? config.r;
    if (a.dims[0] !== r) {
      const found = `lora_A of "${module}" has [${a.dims.join(', ')}]`;
      throw invalid(peftWeightsName, `${peftConfigName} says that "${module}" has rank ${r}, but ${found}`);
    }
    const alpha = alphaOf(module) ?? config.lora_alpha;
    const scale = alpha / (config.use_rslora === true ? Math.sqrt(r) : r);
    layers.set(module, checkedLayer({ module, r, scale, a, b }, peftWeightsName));
  }
  return layers;
}

/** In PEFT the first key of the file that matches counts. */
function readTable(
  values: Readonly<Record<string, number>> | null | undefined,
  what: string,
): (module: string) => number | undefined {
  try {
    return compilePatternTable(Object.entries(values ?? {}), what);
  } catch (error) {
    throw invalid(peftConfigName, error instanceof AppError ? error.message.replace(/\.$/, '') : what, error);
  }
}

function checkFinite(name: string, { data }: FloatTensor): void {
  for (let i = 0; i < data.length; i++) {
    if (!Number.isFinite(data[i]!)) {
      throw invalid(peftWeightsName, `tensor "${name}" holds values that are not finite numbers`);
    }
  }
}
