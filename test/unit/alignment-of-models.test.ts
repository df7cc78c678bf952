/** How a face is cut out belongs to a base model: to its identity, its manifest, its contract and what is said of it. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { alignments } from '../../core/config/alignment.ts';
import { defaultRunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { encodeOnnxModel } from '../../core/graph/encode.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { createCatalogue, defaultBaseId } from '../../core/models/catalogue.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { asksForMore } from '../../core/policy/asks-for-more.ts';
import { contractHash, contractOf } from '../../core/policy/contract.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { halves } from '../fixtures/onnx-files.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const dinov2 = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));

/** A network of two layers for pictures of this side. */
function writeNetwork(file: string, side: number): string {
  const builder = new GraphBuilder();
  const draw = (dims: number[]) => {
    const tensor = floatTensor(dims);
    for (let index = 0; index < tensor.data.length; index++) tensor.data[index] = Math.sin(1 + index);
    return tensor;
  };
  const pixels = builder.input('image', 'float32', [1, 3, side, side]);
  const features = builder.relu(
    builder.conv(pixels, builder.constant(draw([4, 3, 3, 3]), 'stem.weight'), { strides: [4, 4] }),
  );
  const pooled = builder.flatten(builder.globalAveragePool(features));
  builder.output(builder.gemm(pooled, builder.constant(draw([4, 8]), 'fc.weight')), 'out');
  writeFileSync(file, encodeOnnxModel(builder.build()));
  return file;
}

function workplace() {
  const folder = temporaryFolder();
  const models = path.join(folder.dir, 'models');
  return {
    models,
    catalogue: createCatalogue(models),
    network: (side: number) => writeNetwork(path.join(folder.dir, `net-${side}.onnx`), side),
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

describe('the alignment of a base model', () => {
  test.each([
    [112, 'arcface-112'],
    [150, 'dlib-150'],
    [224, 'dlib-150'],
  ] as const)(
    'of an ONNX file for %i pixels is assumed to be %s when nobody says it',
    async (side, alignment) => {
      using place = workplace();

      const looked = await place.catalogue.inspect(place.network(side), halves);
      const manifest = await place.catalogue.import(place.network(side), { id: 'net', ...halves });

      expect(looked).toMatchObject({ alignment, alignmentAssumed: true, sha256: manifest.sha256 });
      expect(manifest).toMatchObject({ alignment, alignmentAssumed: true });
      expect(await place.catalogue.load('net')).toMatchObject({ alignment, sha256: manifest.sha256 });
      expect(await place.catalogue.inspect('net')).toMatchObject({ alignment, alignmentAssumed: true });
      expect((await place.catalogue.list())[1]).toMatchObject({ id: 'net', alignment });
    },
  );

  test('is what a person says, and another one is another base model', async () => {
    using place = workplace();
    const hashes = new Set<string>();
    for (const alignment of alignments) {
      const manifest = await place.catalogue.import(place.network(112), {
        id: `net-${alignment}`,
        ...halves,
        alignment,
      });
      expect(manifest).toMatchObject({ alignment, alignmentAssumed: false });
      expect((await place.catalogue.load(manifest.id)).alignment).toBe(alignment);
      hashes.add(manifest.sha256);
    }

    expect(hashes.size).toBe(alignments.length);
    const [arcface, dlib] = await Promise.all(
      ['net-arcface-112', 'net-dlib-150'].map((id) => place.catalogue.identify(id)),
    );
    // A run on one is not taken for a run on the other.
    await expect(place.catalogue.resolve('net-dlib-150', arcface!)).resolves.toBe('net-arcface-112');
    await expect(place.catalogue.resolve('net-none', 'ab'.repeat(32))).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      action: expect.stringContaining('another alignment'),
    });
    expect(dlib).not.toBe(arcface);
  });

  test('of a model that was imported before there was one is dlib-150, under the hash that it had', async () => {
    using place = workplace();
    const { sha256 } = await place.catalogue.import(place.network(112), {
      id: 'old',
      ...halves,
      alignment: 'dlib-150',
    });
    const file = path.join(place.models, 'old', 'anneal-model.json');
    const { alignment: _, alignmentAssumed: __, ...old } = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify(old));

    const reopened = createCatalogue(place.models);

    expect(await reopened.load('old')).toMatchObject({ alignment: 'dlib-150', sha256 });
    expect((await reopened.verify('old'))[0]!.problem).toBeNull();
    expect(await reopened.inspect('old')).toMatchObject({ alignment: 'dlib-150', alignmentAssumed: false });
  });

  test('does not change what bases with dlib-150 are called', async () => {
    using place = workplace();
    const vit = await openVitFolder(dinov2, { id: 'v', licence: 'x' });

    expect((await place.catalogue.import(dinov2)).sha256).toBe(vit.sha256);
    expect((await place.catalogue.load(defaultBaseId)).alignment).toBe('dlib-150');
  });

  test('outside of the closed set is refused, at the import and in a manifest', async () => {
    using place = workplace();
    await place.catalogue.import(place.network(112), { id: 'net', ...halves });
    const file = path.join(place.models, 'net', 'anneal-model.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"arcface-112"', '"arcface-128"'));

    await expect(createCatalogue(place.models).load('net')).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
    });
  });

  test('stands in the contract, where another one asks a person again', async () => {
    using place = workplace();
    await place.catalogue.import(place.network(112), { id: 'arcface', ...halves });
    await place.catalogue.import(place.network(112), { id: 'dlib', ...halves, alignment: 'dlib-150' });
    const askedBy = { federation: 'f', coordinatorKey: 'k' };
    const contract = async (id: string) => {
      const base = await place.catalogue.load(id);
      return contractOf(
        runConfigSchema.parse(
          defaultRunConfig({
            baseId: 'same',
            baseSha256: base.sha256,
            classes: ['a', 'b'],
            targetModules: 'all',
          }),
        ),
        base,
        askedBy,
      );
    };

    const [dlib, arcface] = [await contract('dlib'), await contract('arcface')];

    expect(arcface.baseModel.alignment).toBe('arcface-112');
    // As contracts were before there was one.
    expect(dlib.baseModel).not.toHaveProperty('alignment');
    expect(contractHash(dlib)).not.toBe(contractHash(arcface));
    expect(asksForMore(dlib, arcface).map(({ path: field }) => field)).toContain('baseModel.alignment');
  });
});
