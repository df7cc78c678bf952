import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeSafetensors, encodeSafetensors } from '../../core/lora/safetensors.ts';
import { openVitFolder, type VitOptions } from '../../core/models/vit-folder.ts';
import { layerModule, transformers5Module } from '../../core/models/vit-names.ts';
import { AppError } from '../../core/shared/errors.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/vit/${name}`, import.meta.url));
const options: VitOptions = { id: 'test', licence: 'none' };

/** A copy of a fixture that a test may change. */
function copyOf(name: string) {
  const { dir, ...folder } = temporaryFolder();
  for (const file of readdirSync(fixture(name)))
    copyFileSync(path.join(fixture(name), file), path.join(dir, file));
  const file = (inside: string) => path.join(dir, inside);
  return {
    dir,
    file,
    editConfig(change: Record<string, unknown>): void {
      const config = JSON.parse(readFileSync(file('config.json'), 'utf8')) as object;
      writeFileSync(file('config.json'), JSON.stringify({ ...config, ...change }));
    },
    editTensors(change: (tensors: Map<string, FloatTensor>) => void): void {
      const { tensors, metadata } = decodeSafetensors(readFileSync(file('model.safetensors')), 'x');
      const edited = new Map(tensors);
      change(edited);
      writeFileSync(file('model.safetensors'), encodeSafetensors(edited, metadata));
    },
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}
type Copy = ReturnType<typeof copyOf>;

const query = 'encoder.layer.1.attention.attention.query.weight';

describe('a vision transformer folder is refused, in a sentence that names the fault, when', () => {
  const invalid: [string, (copy: Copy) => void, RegExp][] = [
    [
      'a tensor is missing',
      (copy) => copy.editTensors((all) => all.delete(query)),
      /model\.safetensors.*layer\.1\.attention\.attention\.query\.weight" is missing: expected \[12, 12\]/,
    ],
    [
      'a tensor has another shape',
      (copy) => copy.editTensors((all) => all.set(query, floatTensor([12, 11]))),
      /query\.weight" has the shape \[12, 11\]: expected \[12, 12\]/,
    ],
    [
      'a tensor is unknown',
      (copy) => copy.editTensors((all) => all.set('encoder.layer.0.rel_pos', floatTensor([1]))),
      /it holds a tensor "encoder\.layer\.0\.rel_pos"/,
    ],
    [
      'a part comes twice',
      (copy) => copy.editTensors((all) => all.set('dinov2.layernorm.weight', floatTensor([12]))),
      /"dinov2\.layernorm\.weight" is the same part as "layernorm\.weight"|"layernorm\.weight" is the same part as/,
    ],
    [
      'a part is too many',
      (copy) => copy.editTensors((all) => all.set('fc_norm.weight', floatTensor([12]))),
      /"fc_norm\.weight" was not expected/,
    ],
    [
      'names of two families are mixed',
      (copy) => copy.editTensors((all) => all.set('blocks.0.mlp.fc1.weight', floatTensor([24, 12]))),
      /is the same part|two families/,
    ],
    [
      'a weight is no number',
      (copy) =>
        copy.editTensors((all) => {
          all.get(query)!.data[7] = Number.NaN;
        }),
      /query\.weight" holds NaN at place 7/,
    ],
    [
      'a block is missing',
      (copy) =>
        copy.editTensors((all) => {
          for (const name of [...all.keys()]) if (name.includes('layer.0.')) all.delete(name);
        }),
      /layer\.0\./,
    ],
    [
      'there is no patch embedding',
      (copy) => copy.editTensors((all) => all.delete('embeddings.patch_embeddings.projection.weight')),
      /embeddings\.patch_embeddings\.projection\.weight" is missing/,
    ],
    [
      'the images have one channel',
      (copy) =>
        copy.editTensors((all) =>
          all.set('embeddings.patch_embeddings.projection.weight', floatTensor([12, 1, 4, 4])),
        ),
      /\[width, 3, size, size\]/,
    ],
    [
      'positions make no square',
      (copy) =>
        copy.editTensors((all) => all.set('embeddings.position_embeddings', floatTensor([1, 15, 12]))),
      /position embeddings are 15/,
    ],
    [
      'the configuration says another width',
      (copy) => copy.editConfig({ hidden_size: 24 }),
      /config\.json.*hidden_size is 24.*12/,
    ],
    [
      'the configuration says more layers',
      (copy) => copy.editConfig({ num_hidden_layers: 3 }),
      /num_hidden_layers is 3.*2/,
    ],
    [
      'the configuration says another image size',
      (copy) => copy.editConfig({ image_size: 20 }),
      /image_size is 20.*16/,
    ],
    ['the image is no square', (copy) => copy.editConfig({ image_size: [16, 32] }), /expected a square/],
    [
      'the activation is unknown',
      (copy) => copy.editConfig({ hidden_act: 'relu' }),
      /activation is "relu": expected one of gelu/,
    ],
    ['the family is another', (copy) => copy.editConfig({ model_type: 'swin' }), /of the type "swin"/],
    [
      'a setting has another type',
      (copy) => copy.editConfig({ num_attention_heads: 'three' }),
      /"num_attention_heads"/,
    ],
    [
      'the configuration is no JSON',
      (copy) => writeFileSync(copy.file('config.json'), '{'),
      /config\.json.*not JSON/,
    ],
    ['the configuration is missing', (copy) => rmSync(copy.file('config.json')), /config\.json.*missing/],
    [
      'the weights are missing',
      (copy) => rmSync(copy.file('model.safetensors')),
      /model\.safetensors.*cannot be opened/,
    ],
  ];

  test.each(invalid)('%s', async (_what, damage, message) => {
    using copy = copyOf('dinov2');
    damage(copy);

    await expect(openVitFolder(copy.dir, options)).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(message),
    });
  });

  test.each<[string, string, VitOptions, RegExp]>([
    [
      'the image size is no multiple of the patch size',
      'dinov2',
      { ...options, imageSize: 18 },
      /18.*not a multiple.*4/,
    ],
    [
      'there is no class token to take',
      'timm-no-class-token',
      { ...options, pooling: 'class' },
      /no class token/,
    ],
  ])('%s', async (_what, name, given, message) => {
    await expect(openVitFolder(fixture(name), given)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(message),
    });
  });

  test.each<[string, (copy: Copy) => void, RegExp]>([
    [
      'nothing says how pixels are normalised',
      (copy) => rmSync(copy.file('preprocessor_config.json')),
      /--mean/,
    ],
    ['the heads do not share the width', (copy) => copy.editConfig({ num_attention_heads: 5 }), /Correct/],
    ['the pooling is unknown', (copy) => copy.editConfig({ global_pool: 'map' }), /--pooling/],
  ])('%s', async (_what, damage, action) => {
    using copy = copyOf('dinov2');
    damage(copy);

    await expect(openVitFolder(copy.dir, options)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      action: expect.stringMatching(action),
    });
  });

  test.each<[string, Record<string, string>, RegExp]>([
    [
      'the index leads out of the folder',
      { 'layernorm.weight': '../model.safetensors' },
      /"\.\.\/model\.safetensors" is not the name/,
    ],
    ['the index names no safetensors file', { 'layernorm.weight': '.bashrc' }, /is not the name/],
    [
      'the index promises a tensor that is not there',
      { ghost: 'model-00001-of-00003.safetensors' },
      /"ghost", which .* promises, is missing/,
    ],
    ['the index names nothing', {}, /names no file/],
  ])('%s', async (_what, places, message) => {
    using copy = copyOf('vit-pieces');
    writeFileSync(copy.file('model.safetensors.index.json'), JSON.stringify({ weight_map: places }));

    await expect(openVitFolder(copy.dir, options)).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
      message: expect.stringMatching(message),
    });
  });

  test('its configuration holds anything at all', async () => {
    using copy = copyOf('timm-mean');
    const fields = [
      'image_size',
      'patch_size',
      'num_attention_heads',
      'hidden_act',
      'model_type',
      'image_mean',
      'image_std',
      'model_args',
      'pretrained_cfg',
      'global_pool',
      'layer_norm_eps',
      'architecture',
    ];
    const original = readFileSync(copy.file('config.json'), 'utf8');
    let refused = 0;

    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...fields), fc.jsonValue(), async (field, value) => {
        writeFileSync(copy.file('config.json'), original);
        copy.editConfig({ [field]: value });
        try {
          await openVitFolder(copy.dir, options);
        } catch (error) {
          refused++;
          expect(error).toBeInstanceOf(AppError);
          expect((error as AppError).code).toMatch(/^(MODEL_FILE_INVALID|CONFIG_INVALID)$/);
        }
      }),
      { numRuns: 150 },
    );

    expect(refused).toBeGreaterThan(20);
  });
});

describe('modules are called', () => {
  test('as the file calls them, so that PEFT finds them', async () => {
    const vit = await openVitFolder(fixture('vit-classifier'), options);
    const dinov2 = await openVitFolder(fixture('dinov2'), options);
    const modules = (layers: typeof vit.layers) => layers.slice(3, 6).map((layer) => layer.module);

    expect(vit.presets['attention']).toEqual([
      'encoder.layer.0.attention.attention.query',
      'encoder.layer.0.attention.attention.value',
      'encoder.layer.1.attention.attention.query',
      'encoder.layer.1.attention.attention.value',
    ]);
    expect(modules(vit.layers)).toEqual([
      'encoder.layer.0.attention.output.dense',
      'encoder.layer.0.intermediate.dense',
      'encoder.layer.0.output.dense',
    ]);
    expect(modules(dinov2.layers)).toEqual([
      'encoder.layer.0.attention.output.dense',
      'encoder.layer.0.mlp.fc1',
      'encoder.layer.0.mlp.fc2',
    ]);
  });

  test('q, k and v where timm has one layer; each says which rows of it are its own', async () => {
    const { layers } = await openVitFolder(fixture('timm-mean'), options);

    expect(
      layers.slice(0, 4).map(({ module, peftModule, peftPart }) => ({ module, peftModule, peftPart })),
    ).toEqual([
      { module: 'blocks.0.attn.q', peftModule: 'blocks.0.attn.qkv', peftPart: { start: 0, rows: 36 } },
      { module: 'blocks.0.attn.k', peftModule: 'blocks.0.attn.qkv', peftPart: { start: 12, rows: 36 } },
      { module: 'blocks.0.attn.v', peftModule: 'blocks.0.attn.qkv', peftPart: { start: 24, rows: 36 } },
      { module: 'blocks.0.attn.proj', peftModule: undefined, peftPart: undefined },
    ]);
  });

  test.each([
    ['transformers-vit', 'attn.q', 'layers.3.attention.q_proj'],
    ['transformers-vit', 'attn.proj', 'layers.3.attention.o_proj'],
    ['transformers-vit', 'mlp.fc1', 'layers.3.mlp.fc1'],
    ['transformers-vit', 'mlp.fc2', 'layers.3.mlp.fc2'],
    ['transformers-dinov2', 'attn.v', 'encoder.layer.3.attention.v_proj'],
    ['transformers-dinov2', 'mlp.fc2', 'encoder.layer.3.mlp.fc2'],
    ['timm', 'attn.proj', 'blocks.3.attn.proj'],
  ] as const)('otherwise in transformers 5: %s %s is %s', (naming, part, wanted) => {
    expect(transformers5Module(layerModule(naming, 3, part, false), naming)).toBe(wanted);
  });

  test('the same with a prefix; image size and pooling make another base model', async () => {
    using copy = copyOf('dinov2');
    copy.editTensors((all) => {
      for (const [name, tensor] of [...all]) {
        all.delete(name);
        all.set(`dinov2.${name}`, tensor);
      }
    });

    const prefixed = await openVitFolder(copy.dir, options);

    // A prefix alone is no other name: the network is the same.
    expect(prefixed.sha256).toBe((await openVitFolder(fixture('dinov2'), options)).sha256);
    expect((await openVitFolder(fixture('dinov2'), { ...options, imageSize: 24 })).sha256).not.toBe(
      prefixed.sha256,
    );
    expect((await openVitFolder(fixture('dinov2'), { ...options, pooling: 'mean' })).sha256).not.toBe(
      prefixed.sha256,
    );
  });
});
