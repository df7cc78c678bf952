import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { resizePositions } from '../../core/models/position-embeddings.ts';
import { openVitFolder, type VitOptions } from '../../core/models/vit-folder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { patternImages } from '../fixtures/vit/images.ts';

const fixtures = new URL('../fixtures/vit/', import.meta.url);
const vitTinyFolder = '../shared/models/vit-tiny-patch16-224';

interface Reference {
  imageSize: number;
  pooling: 'class' | 'mean' | 'as stated';
  embedding: number[][];
}
interface PositionCase {
  source: number;
  target: number;
  antialias: boolean;
  positions: number[];
  resized: number[];
}
/** Made by make_fixtures.py with PyTorch, transformers and timm. */
const made = JSON.parse(readFileSync(new URL('references.json', fixtures), 'utf8')) as {
  references: Record<string, Reference[]>;
  positions: PositionCase[];
};
const { 'vit-tiny-patch16-224': ofVitTiny = [], ...ofFixtures } = made.references;

const options: VitOptions = { id: 'test', licence: 'none' };
const folderOf = (name: string) => fileURLToPath(new URL(name, fixtures));

async function embed(base: BaseModel): Promise<number[]> {
  const executable = await createOnnxRuntimeEngine().compile(base.buildGraph(2), {
    device: 'cpu',
    threads: 1,
  });
  const { embedding } = await executable.run({ pixels: patternImages(base.inputSize) });
  await executable.release();
  return [...(embedding!.data as Float32Array)];
}

function largestDifference(found: readonly number[], wanted: readonly number[]): number {
  expect(found).toHaveLength(wanted.length);
  return Math.max(...wanted.map((value, index) => Math.abs(value - found[index]!)));
}

/** The settings that the Python side used, for a reference. */
function optionsOf({ imageSize, pooling }: Reference): VitOptions {
  return { ...options, imageSize, ...(pooling === 'as stated' ? {} : { pooling }) };
}

describe('a vision transformer from a folder embeds as PyTorch does', () => {
  const cases = Object.entries(ofFixtures).flatMap(([name, references]) =>
    references.map((reference) => ({ name, reference })),
  );

  test.each(cases)(
    '$name at $reference.imageSize pixels, pooling $reference.pooling',
    async ({ name, reference }) => {
      const base = await openVitFolder(folderOf(name), optionsOf(reference));

      const embedding = await embed(base);

      expect(base.inputSize).toBe(reference.imageSize);
      expect(largestDifference(embedding, reference.embedding.flat())).toBeLessThan(1e-4);
    },
  );

  test.skipIf(!existsSync(vitTinyFolder)).each(ofVitTiny)(
    'the real ViT-Tiny at $imageSize pixels (needs the shared folder of models)',
    async (reference) => {
      const base = await openVitFolder(vitTinyFolder, optionsOf(reference));

      const embedding = await embed(base);

      expect(largestDifference(embedding, reference.embedding.flat())).toBeLessThan(1e-4);
    },
  );
});

describe('position embeddings for another image size', () => {
  test.each(made.positions)('$source² to $target², antialias $antialias: as PyTorch interpolates', (one) => {
    const { source, target, antialias } = one;
    const positions = floatTensor([1, 1 + source ** 2, 2], Float32Array.from(one.positions));

    const resized = resizePositions(positions, 1, target, antialias);

    expect(resized.dims).toEqual([1, 1 + target ** 2, 2]);
    expect(largestDifference([...resized.data], one.resized)).toBeLessThan(1e-5);
  });
});
