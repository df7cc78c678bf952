/**
 * What the layers of a base model are called in Python, where several libraries have the same network under
 * different names: timm, and Hugging Face transformers before and since version 5.
 */
import { ownPeftNames, type PeftNames, type PeftPlace } from '../lora/peft-format.ts';
import { AppError } from '../shared/errors.ts';
import type { AdaptableLayer, BaseModel } from './base-model.ts';
import { layerModule, transformers5Module } from './vit-names.ts';

/**
 * `file`: as in the base model's own files (the default); `anneal`: Anneal's module names, also where they are parts
 * of one module; the others: a vision transformer of that library, with its classifier.
 */
export const peftNameStyles = ['file', 'anneal', 'timm', 'transformers', 'transformers-4'] as const;
export type PeftNameStyle = (typeof peftNameStyles)[number];

/** Before CLIP's modules in transformers up to version 4. */
const clipPrefix = 'vision_model.';

type NamedBase = Pick<BaseModel, 'id' | 'layers'>;

/** @throws AppError CONFIG_INVALID when the base model has layers that the library does not have */
export function peftNames(base: NamedBase, style: PeftNameStyle): PeftNames {
  if (style === 'anneal') return ownPeftNames;
  const places = new Map(base.layers.map((layer) => [layer.module, placeIn(layer, style, base.id)]));
  const isTimm = [...places.values()].some(({ module }) => /^blocks\.\d+\.attn\.qkv$/.test(module));
  return { placeOf: (module) => places.get(module) ?? { module }, head: isTimm ? 'head' : 'classifier' };
}

/** A layer that a module of Python stands for, wholly or in part. */
export interface FoundLayer {
  readonly layer: AdaptableLayer;
  /** First row of its outputs in the module and their number there, when the module is wider. */
  readonly part: { readonly start: number; readonly rows: number } | null;
}

/** Finds layers by any of the names that a module has in Python; nothing for a name that no library gives it. */
export function peftModuleIndex(base: NamedBase): (module: string) => readonly FoundLayer[] {
  const index = new Map<string, FoundLayer[]>();
  for (const layer of base.layers) {
    for (const { module, start = 0, rows } of aliases(layer)) {
      const found = index.get(module) ?? [];
      if (found.some((entry) => entry.layer === layer)) continue;
      found.push({ layer, part: rows === undefined ? null : { start, rows } });
      index.set(module, found);
    }
  }
  return (module) => index.get(module) ?? [];
}

function placeIn(layer: AdaptableLayer, style: Exclude<PeftNameStyle, 'anneal'>, id: string): PeftPlace {
  if (style === 'file') return { module: layer.peftModule ?? layer.module, ...layer.peftPart };
  const vit = vitPart(layer);
  if (vit === null) {
    throw new AppError(
      'CONFIG_INVALID',
      `The base model ${id} has no ${style} names: it is not such a network.`,
      {
        action: 'Leave out --names, or set it to "anneal".',
      },
    );
  }
  if (style === 'timm') return timmPlace(layer, vit);
  // Files of ViT and of DINOv2 name the parts of a block differently; a DINOv2 base brings its own names.
  if (layer.module.startsWith('encoder.layers.'))
    return { module: `${style === 'transformers' ? '' : clipPrefix}${layer.module}` };
  const naming = /^encoder\.layer\.\d+\.mlp\./.test(layer.module)
    ? 'transformers-dinov2'
    : 'transformers-vit';
  const old = layerModule(naming, vit.block, vit.part, false);
  const prefix = naming === 'transformers-vit' ? 'vit' : 'dinov2';
  return { module: `${prefix}.${style === 'transformers' ? transformers5Module(old, naming) : old}` };
}

/** Block and part of a vision transformer's layer, from the name of its weight inside Anneal. */
function vitPart({ weight }: AdaptableLayer): { block: number; part: string } | null {
  const found = /^blocks\.(\d+)\.(attn\.[qkv]|attn\.proj|mlp\.fc[12])\.weight$/.exec(weight);
  return found === null ? null : { block: Number(found[1]), part: found[2]! };
}

function timmPlace(
  { weightDims }: AdaptableLayer,
  { block, part }: { block: number; part: string },
): PeftPlace {
  const index = ['attn.q', 'attn.k', 'attn.v'].indexOf(part);
  if (index < 0) return { module: `blocks.${block}.${part}` };
  const out = weightDims[0]!;
  return { module: `blocks.${block}.attn.qkv`, start: index * out, rows: 3 * out };
}

function aliases(layer: AdaptableLayer): PeftPlace[] {
  const own: PeftPlace[] = [{ module: layer.module }];
  if (layer.peftModule !== undefined) own.push({ module: layer.peftModule, ...layer.peftPart });
  const vit = vitPart(layer);
  if (vit === null) return own;
  const names = new Set<string>();
  for (const naming of ['transformers-vit', 'transformers-dinov2'] as const) {
    for (const isGated of [false, true]) {
      const old = layerModule(naming, vit.block, vit.part, isGated);
      names.add(old).add(transformers5Module(old, naming));
    }
  }
  const prefixed = [...names].flatMap((name) =>
    ['', 'vit.', 'deit.', 'dinov2.'].map((prefix) => ({ module: `${prefix}${name}` })),
  );
  const clip = layerModule('transformers-clip', vit.block, vit.part, false);
  const clips = ['', clipPrefix].map((prefix) => ({ module: `${prefix}${clip}` }));
  return [
    ...own,
    timmPlace(layer, vit),
    ...clips,
    { module: `blocks.${vit.block}.${vit.part}` },
    ...prefixed,
  ];
}
