/** States of a ViT-Base federation, as files: LoRA on q and v of twelve blocks, a head of ten classes. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { createRandom, type Random } from '../../core/shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';

export const width = 768;
export const blocks = 12;
export const rank = 16;
export const scale = 2;
export const baseSha256 = '0'.repeat(64);
export const classes = Array.from({ length: 10 }, (_, k) => `class ${k}`);
export const modules = Array.from({ length: blocks }, (_, block) => [
  `blocks.${block}.attn.q`,
  `blocks.${block}.attn.v`,
]).flat();

export const globalFile = 'global.safetensors';
export const siteFile = (site: number) => `site-${String(site).padStart(4, '0')}.safetensors`;
/** Images of a site: no two sites count the same. */
export const examplesOf = (site: number) => 20 + ((site * 37) % 181);

/**
 * Writes the global state and one update for each site. Values are independent of each other, so that the singular
 * values of the sum fall slowly: the hardest case for a method that looks for the largest ones.
 */
export async function writeStates(folder: string, sites: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, globalFile), encodeModelState(randomState(createRandom(1))));
  for (let site = 0; site < sites; site++) {
    await writeFile(join(folder, siteFile(site)), encodeModelState(randomState(createRandom(100 + site))));
  }
}

function randomState(random: Random): ModelState {
  const lora = modules.map((module): [string, LoraLayer] => {
    const a = spread([rank, width], 1 / Math.sqrt(width), random);
    return [module, { module, r: rank, scale, a, b: spread([width, rank], 0.01, random) }];
  });
  const head = new Map([
    ['weight', spread([classes.length, width], 0.02, random)],
    ['bias', spread([classes.length], 0.02, random)],
  ]);
  return { baseSha256, classes, lora: new Map(lora), head, base: new Map() };
}

/** Uniform in ±√3·deviation. */
function spread(dims: readonly number[], deviation: number, random: Random): FloatTensor {
  const data = new Float32Array(elementCount(dims));
  for (let i = 0; i < data.length; i++) data[i] = (2 * random.uniform() - 1) * Math.sqrt(3) * deviation;
  return floatTensor(dims, data);
}
