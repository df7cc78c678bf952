/**
 * The names of a vision transformer's parts in the files of timm and of Hugging Face transformers (ViT, DeiT, DINOv2, CLIP). Inside
 * Anneal weights have timm's names with q, k and v apart; modules have the names of the file, because those
 * are what PEFT users know.
 */
import type { VitNaming } from './vit-config.ts';

type NameTable = Readonly<Record<string, string>>;

/** Parts of a block: Anneal's name and the file's, both after the block's own. */
const vitParts: NameTable = {
  norm1: 'layernorm_before',
  'attn.q': 'attention.attention.query',
  'attn.k': 'attention.attention.key',
  'attn.v': 'attention.attention.value',
  'attn.proj': 'attention.output.dense',
  norm2: 'layernorm_after',
  'mlp.fc1': 'intermediate.dense',
  'mlp.fc2': 'output.dense',
};
const dinov2Parts: NameTable = {
  ...vitParts,
  norm1: 'norm1',
  norm2: 'norm2',
  'mlp.fc1': 'mlp.fc1',
  'mlp.fc2': 'mlp.fc2',
};
/** As `dinov2Parts`, for the gated feed-forward part. */
const gatedParts: NameTable = { ...dinov2Parts, 'mlp.fc1': 'mlp.weights_in', 'mlp.fc2': 'mlp.weights_out' };

const clipParts: NameTable = {
  norm1: 'layer_norm1',
  'attn.q': 'self_attn.q_proj',
  'attn.k': 'self_attn.k_proj',
  'attn.v': 'self_attn.v_proj',
  'attn.proj': 'self_attn.out_proj',
  norm2: 'layer_norm2',
  'mlp.fc1': 'mlp.fc1',
  'mlp.fc2': 'mlp.fc2',
};

/** Names outside the blocks that differ from Anneal's, of all families. */
const outerNames: NameTable = {
  'embeddings.cls_token': 'cls_token',
  'embeddings.distillation_token': 'dist_token',
  'embeddings.register_tokens': 'reg_token',
  register_tokens: 'reg_token',
  'embeddings.position_embeddings': 'pos_embed',
  'embeddings.patch_embeddings.projection.weight': 'patch_embed.proj.weight',
  'embeddings.patch_embeddings.projection.bias': 'patch_embed.proj.bias',
  'layernorm.weight': 'norm.weight',
  'layernorm.bias': 'norm.bias',
  'embeddings.class_embedding': 'cls_token',
  'embeddings.position_embedding.weight': 'pos_embed',
  'embeddings.patch_embedding.weight': 'patch_embed.proj.weight',
  // So it is spelt in the files.
  'pre_layrnorm.weight': 'norm_pre.weight',
  'pre_layrnorm.bias': 'norm_pre.bias',
  'post_layernorm.weight': 'norm.weight',
  'post_layernorm.bias': 'norm.bias',
};

/** Parts of a block in a file, and Anneal's names of them; `attn.qkv` is cut up later. */
const blockParts: ReadonlyMap<string, string> = new Map([
  ...[vitParts, dinov2Parts, gatedParts, clipParts].flatMap((parts) =>
    Object.entries(parts).map(([own, theirs]) => [theirs, own] as const),
  ),
  ...Object.keys({ ...vitParts, 'attn.qkv': '' }).map((own) => [own, own] as const),
  // The repository of DINOv2 itself.
  ['mlp.w12', 'mlp.fc1'],
  ['mlp.w3', 'mlp.fc2'],
]);

/** What a wrapped model's names begin with: `ViTForImageClassification` holds its network as `vit`. */
const prefixes =
  /^(?:vit|deit|dinov2|dinov2_with_registers|timm_model)\.(?=embeddings\.|encoder\.|layernorm\.|blocks\.|patch_embed\.|cls_token$|pos_embed$|reg_token$|dist_token$|norm\.|fc_norm\.|head)/;

/** CLIP's; a `head` behind it would be SigLIP's, which pools with it. */
const clipPrefix = /^vision_model\.(?=embeddings\.|encoder\.|pre_layrnorm\.|post_layernorm\.)/;

/** Parts that an embedding does not need: classifiers, the pooler, what pretraining leaves behind, CLIP's half for texts. */
const ignored =
  /^(?:head|head_dist|head_drop|classifier|cls_classifier|distillation_classifier|pooler|decoder|text_model|text_projection|visual_projection)\.|^(?:embeddings\.)?mask_token$|^logit_scale$|^embeddings\.position_ids$/;

export interface CanonicalName {
  /** Anneal's name, or null when an embedding does not need this tensor. */
  readonly name: string | null;
  /** Which family has such a name; null where several do. */
  readonly naming: VitNaming | null;
}

/** Reads the name of a tensor in a file; undefined when it belongs to no vision transformer that Anneal knows. */
export function canonicalVitName(fileName: string): CanonicalName | undefined {
  const bare = fileName.replace(prefixes, '').replace(clipPrefix, '');
  if (ignored.test(bare)) return { name: null, naming: null };
  const outer = Object.hasOwn(outerNames, bare) ? outerNames[bare]! : null;
  if (outer !== null) return { name: outer, naming: null };
  if (
    /^(?:cls_token|dist_token|reg_token|pos_embed|(?:patch_embed\.proj|norm|norm_pre|fc_norm)\.(?:weight|bias))$/.test(
      bare,
    )
  )
    return { name: bare, naming: null };
  const [, container = '', index = '', rest = ''] =
    /^(blocks|encoder\.layers?)\.(\d{1,4})\.(.+)$/.exec(bare) ?? [];
  const scale = /^(?:ls|layer_scale)([12])\.(?:gamma|lambda1)$/.exec(rest);
  const block = `blocks.${Number(index)}`;
  if (scale) return { name: `${block}.ls${scale[1]}.gamma`, naming: null };
  const [, part = '', kind = ''] = /^(.+)\.(weight|bias)$/.exec(rest) ?? [];
  const own = blockParts.get(part);
  if (own === undefined) return undefined;
  return { name: `${block}.${own}.${kind}`, naming: namingOf(container, part) };
}

function namingOf(container: string, part: string): VitNaming | null {
  if (container === 'blocks') return 'timm';
  if (container === 'encoder.layers') return 'transformers-clip';
  if (part === 'layernorm_before') return 'transformers-vit';
  return part === 'norm1' ? 'transformers-dinov2' : null;
}

/** Name of a layer as a module of the family: `blocks.3` and `attn.q` of Anneal are `encoder.layer.3.attention.attention.query`. */
export function layerModule(naming: VitNaming, block: number, part: string, gated: boolean): string {
  if (naming === 'timm') return `blocks.${block}.${part}`;
  if (naming === 'transformers-clip') return `encoder.layers.${block}.${clipParts[part] ?? part}`;
  const parts = naming === 'transformers-vit' ? vitParts : gated ? gatedParts : dinov2Parts;
  return `encoder.layer.${block}.${parts[part] ?? part}`;
}

/** The file's name of one of Anneal's, for errors about a tensor that is not there. */
export function fileVitName(naming: VitNaming, name: string, fusedQkv: boolean): string {
  const [, block, part = '', kind] = /^blocks\.(\d+)\.(.+)\.(weight|bias|gamma)$/.exec(name) ?? [];
  if (naming === 'timm') return fusedQkv ? name.replace(/\.attn\.[qkv]\./, '.attn.qkv.') : name;
  if (block === undefined) {
    const own = Object.keys(outerNames).filter((file) => file.includes('.') && outerNames[file] === name);
    // CLIP's stand behind those of the others.
    return (naming === 'transformers-clip' ? own.at(-1) : own[0]) ?? name;
  }
  if (kind === 'gamma') return `encoder.layer.${block}.layer_scale${part.slice(-1)}.lambda1`;
  return `${layerModule(naming, Number(block), part, false)}.${kind}`;
}

/**
 * Transformers 5 renamed the modules in memory, though not the tensors in its files: PEFT names layers there
 * by these. The gated feed-forward layer of the largest DINOv2 is two modules there and keeps its old name here.
 * Source: transformers 5, models/vit, models/deit and models/dinov2.
 */
export function transformers5Module(module: string, naming: VitNaming): string {
  if (naming === 'timm' || naming === 'transformers-clip') return module;
  const renamed = module
    .replace('.attention.attention.query', '.attention.q_proj')
    .replace('.attention.attention.key', '.attention.k_proj')
    .replace('.attention.attention.value', '.attention.v_proj')
    .replace('.attention.output.dense', '.attention.o_proj');
  if (naming === 'transformers-dinov2') return renamed;
  return renamed
    .replace(/^encoder\.layer\./, 'layers.')
    .replace(/\.intermediate\.dense$/, '.mlp.fc1')
    .replace(/(\d)\.output\.dense$/, '$1.mlp.fc2');
}
