/**
 * Writes what both sides of a benchmark start from: weights, factors, head and images.
 * Run as `node prepare-network.ts NETWORK FOLDER BATCH`, in a process of its own so that its memory is given back.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { stateParameters } from '../../core/engine/training-graph.ts';
import { encodeSafetensors } from '../../core/lora/safetensors.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { loadFaceResnet128 } from '../../core/models/face-resnet-128.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { resolveTargetModules } from '../../core/models/target-modules.ts';
import { createVit } from '../../core/models/vit.ts';
import type { VitConfig } from '../../core/models/vit-config.ts';
import { createRandom, mixSeed } from '../../core/shared/random.ts';
import { type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { randomVitWeights } from '../fixtures/base-models.ts';
import { type Description, descriptionFile, imagesFile, parametersFile } from './description.ts';
import { type BenchNetwork, benchNetworks, benchTraining } from './networks.ts';

/** The real weights that this project may have beside its checkout. */
const realTiny = resolve(import.meta.dirname, '../../../shared/models/vit-tiny-patch16-224');

const [networkId = '', folder = '', batchText = ''] = process.argv.slice(2);
const network = benchNetworks.find(({ id }) => id === networkId);
if (network === undefined) throw new Error(`there is no network "${networkId}"`);
await prepare({ ...network, batch: Number(batchText) || network.batch }, folder);

async function prepare(network: BenchNetwork, folder: string): Promise<void> {
  await mkdir(join(folder, 'model'), { recursive: true });
  const { base, modelFile, config } = network.vit
    ? await prepareVit(network.vit, join(folder, 'model'))
    : await prepareFaceResnet(join(folder, 'model'));
  const { rank, scale, classes, seed, ...training } = benchTraining;
  const names = Array.from({ length: classes }, (_, index) => `class ${index}`);
  const targetModules = network.targetModules;
  const state = initialState(base, { classes: names, targetModules, r: rank, scale, seed });
  // B starts at zero, where A has no gradient: a comparison wants all of them.
  const random = createRandom(mixSeed(seed, 'lora_B'));
  for (const { b } of state.lora.values())
    for (let i = 0; i < b.data.length; i++) b.data[i] = 0.02 * random.normal();
  await writeFile(join(folder, parametersFile), encodeSafetensors(stateParameters(state), {}));
  const images = 2 * network.batch;
  await writeFile(join(folder, imagesFile), randomImages(images, base.inputSize, seed));
  const description: Description = {
    network: network.id,
    kind: network.vit ? 'vit' : 'face-resnet',
    ...(config ? { config } : {}),
    modelFile,
    modules: resolveTargetModules(base, targetModules).map(({ module }) => module),
    rank,
    scale,
    classes,
    batch: network.batch,
    side: base.inputSize,
    images,
    seed,
    training,
  };
  await writeFile(join(folder, descriptionFile), JSON.stringify(description));
}

interface PreparedModel {
  base: BaseModel;
  modelFile: string;
  config?: Record<string, unknown>;
}

async function prepareFaceResnet(folder: string): Promise<PreparedModel> {
  const base = await loadFaceResnet128();
  const modelFile = join(folder, 'model.safetensors');
  await writeFile(modelFile, encodeSafetensors(base.weights, {}));
  return { base, modelFile };
}

/** A folder as Hugging Face has them, with timm's tensor names; the real ViT-Tiny where it is at hand. */
async function prepareVit(vit: VitConfig, folder: string): Promise<PreparedModel> {
  const config = {
    model_type: 'vit',
    image_size: vit.imageSize,
    patch_size: vit.patchSize,
    num_channels: 3,
    hidden_size: vit.hiddenSize,
    num_hidden_layers: vit.layers,
    num_attention_heads: vit.heads,
    intermediate_size: vit.mlpSize,
    hidden_act: 'gelu',
    layer_norm_eps: vit.epsilon,
    image_mean: vit.mean,
    image_std: vit.deviation,
  };
  const weights = randomVitWeights(vit, benchTraining.seed);
  const base = createVit(vit, weights);
  const real = join(realTiny, 'model.safetensors');
  if (vit.id === 'vit-tiny' && existsSync(real)) return { base, modelFile: real, config };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const modelFile = join(folder, 'model.safetensors');
  await writeFile(modelFile, encodeSafetensors(joinAttention(weights), {}));
  return { base, modelFile, config };
}

/** q, k and v one after the other in one tensor, as timm has them. */
function joinAttention(weights: ReadonlyMap<string, FloatTensor>): Map<string, FloatTensor> {
  const joined = new Map<string, FloatTensor>();
  for (const [name, tensor] of weights) {
    if (/\.attn\.[kv]\./.test(name)) continue;
    if (!name.includes('.attn.q.')) {
      joined.set(name, tensor);
      continue;
    }
    const parts = ['q', 'k', 'v'].map((part) => weights.get(name.replace('.q.', `.${part}.`))!);
    const dims = [3 * tensor.dims[0]!, ...tensor.dims.slice(1)];
    const whole = floatTensor(dims);
    parts.forEach(({ data }, index) => {
      whole.data.set(data, index * data.length);
    });
    joined.set(name.replace('.q.', '.qkv.'), whole);
  }
  return joined;
}

/** Coarse patches of colour with noise on them: images that differ from one another. */
function randomImages(count: number, side: number, seed: number): Uint8Array {
  const cells = 8;
  const random = createRandom(mixSeed(seed, 'pictures'));
  const bytes = new Uint8Array(count * side * side * 3);
  for (let image = 0, at = 0; image < count; image++) {
    const colours = Array.from({ length: cells * cells * 3 }, () => random.integer(208));
    for (let y = 0; y < side; y++) {
      const row = Math.floor((y * cells) / side) * cells;
      for (let x = 0; x < side; x++) {
        const cell = 3 * (row + Math.floor((x * cells) / side));
        const noise = random.integer(48);
        for (let channel = 0; channel < 3; channel++) bytes[at++] = colours[cell + channel]! + noise;
      }
    }
  }
  return bytes;
}
