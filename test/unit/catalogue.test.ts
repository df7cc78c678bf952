import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { createCatalogue, defaultBaseId } from '../../core/models/catalogue.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/vit/${name}`, import.meta.url));
const dinov2 = fixture('dinov2');

/** A models folder that does not exist yet, beside room for sources. */
function workplace() {
  const folder = temporaryFolder();
  const models = path.join(folder.dir, 'data', 'models');
  return {
    models,
    dir: folder.dir,
    catalogue: createCatalogue(models),
    /** A copy of a model that a test may damage. */
    copyOf(name: string): string {
      const copy = path.join(folder.dir, name);
      cpSync(fixture(name), copy, { recursive: true });
      return copy;
    },
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** Nothing but whole models: no temporary folders either. */
function installed(models: string): string[] {
  return existsSync(models) ? readdirSync(models) : [];
}

describe('the catalogue', () => {
  test('holds the built-in model alone while nothing was imported', async () => {
    using place = workplace();

    const entries = await place.catalogue.list();

    expect(entries.map((entry) => entry.id)).toEqual([defaultBaseId]);
    expect((await place.catalogue.load(defaultBaseId)).inputSize).toBe(entries[0]!.inputSize);
  });

  test('imports a folder, and gives the same model as the folder itself', async () => {
    using place = workplace();

    const manifest = await place.catalogue.import(dinov2, { licence: 'Apache-2.0', imageSize: 24 });
    const model = await place.catalogue.load('dinov2');

    expect(manifest).toMatchObject({ id: 'dinov2', format: 'vit', inputSize: 24, licence: 'Apache-2.0' });
    expect(model).toMatchObject({
      id: 'dinov2',
      sha256: manifest.sha256,
      inputSize: 24,
      licence: 'Apache-2.0',
    });
    expect(await place.catalogue.identify('dinov2')).toBe(model.sha256);
    expect(await place.catalogue.inspect(dinov2, { imageSize: 24 })).toMatchObject({ sha256: model.sha256 });
    expect((await place.catalogue.list()).map((entry) => entry.id)).toEqual([defaultBaseId, 'dinov2']);
    expect(manifest.files.find((file) => file.name === 'model.safetensors')).toMatchObject({
      sha256: sha256(readFileSync(path.join(dinov2, 'model.safetensors'))),
    });
    // Another process sees it, too.
    expect((await createCatalogue(place.models).load('dinov2')).sha256).toBe(model.sha256);
  });

  test('loads a model once while it stays the same', async () => {
    using place = workplace();
    await place.catalogue.import(dinov2);

    const first = await place.catalogue.load('dinov2');

    expect(await place.catalogue.load('dinov2')).toBe(first);
  });

  test('takes the pieces of a model with their index', async () => {
    using place = workplace();

    const { files } = await place.catalogue.import(fixture('vit-pieces'), { id: 'pieces' });

    expect(files.map((file) => file.name)).toEqual([
      'config.json',
      'preprocessor_config.json',
      'model.safetensors.index.json',
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
    ]);
    expect(await place.catalogue.verify('pieces')).toMatchObject([{ id: 'pieces', problem: null }]);
  });

  test('takes the licence that a folder states, and a name from it', async () => {
    using place = workplace();

    const { id, licence } = await place.catalogue.import(fixture('timm-mean'));

    expect({ id, licence }).toEqual({ id: 'timm-mean', licence: 'apache-2.0' });
  });

  test('finds the base of a run by its hash, whatever it is called here', async () => {
    using place = workplace();
    const { sha256: identity } = await place.catalogue.import(dinov2, { id: 'our-dino' });

    expect(await place.catalogue.resolve('our-dino', identity)).toBe('our-dino');
    expect(await place.catalogue.resolve('their-dino', identity)).toBe('our-dino');
    await expect(place.catalogue.resolve('our-dino', 'f'.repeat(64))).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      message: expect.stringContaining('other weights or settings'),
      action: expect.stringContaining('f'.repeat(64)),
    });
    await expect(place.catalogue.resolve('nobody', 'f'.repeat(64))).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      message: expect.stringContaining('not installed'),
    });
  });

  test('counts the values that travel, by preset and rank', async () => {
    using place = workplace();

    const report = await place.catalogue.inspect(dinov2);

    // Two blocks; q and v of 12 × 12: r · (12 + 12) values each.
    expect(report.presets.find((preset) => preset.name === 'attention')).toEqual({
      name: 'attention',
      layers: 4,
      share: 1 / 3,
      parametersByRank: { 4: 384, 8: 768, 16: 1536, 32: 3072 },
    });
    expect(report.layers[0]).toEqual({
      module: 'encoder.layer.0.attention.attention.query',
      nameInFile: 'encoder.layer.0.attention.attention.query',
      foldedNorm: false,
      kind: 'linear',
      weightDims: [12, 12],
    });
  });

  test.each(['../dinov2', '/etc', 'a/b', '', '.', 'CON ', 'x'.repeat(65)])(
    'knows no model by the id %j, whatever folders there are',
    async (id) => {
      using place = workplace();
      await place.catalogue.import(dinov2);

      await expect(place.catalogue.load(id)).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' });
    },
  );
});

describe('an import leaves nothing behind when it', () => {
  test.each(['../up', 'With Capitals', 'a_b', '-a', 'a.', 'x'.repeat(65)])(
    'is given the id %j',
    async (id) => {
      using place = workplace();

      await expect(place.catalogue.import(dinov2, { id })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });

      expect(installed(place.models)).toEqual([]);
    },
  );

  test('would take the place of another model', async () => {
    using place = workplace();
    const first = await place.catalogue.import(dinov2, { id: 'taken' });

    await expect(place.catalogue.import(fixture('timm-mean'), { id: 'taken' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      action: expect.stringContaining('--id'),
    });
    await expect(place.catalogue.import(dinov2, { id: defaultBaseId })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });

    expect(installed(place.models)).toEqual(['taken']);
    expect(await place.catalogue.identify('taken')).toBe(first.sha256);
  });

  test('is repeated: the model stays as it was', async () => {
    using place = workplace();
    const first = await place.catalogue.import(dinov2);

    expect(await place.catalogue.import(dinov2)).toEqual(first);
    expect(installed(place.models)).toEqual(['dinov2']);
  });

  test('races with another import of the same name', async () => {
    using place = workplace();

    const results = await Promise.allSettled([
      place.catalogue.import(dinov2, { id: 'race' }),
      place.catalogue.import(fixture('timm-mean'), { id: 'race' }),
    ]);

    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(installed(place.models)).toEqual(['race']);
    expect(await place.catalogue.verify('race')).toMatchObject([{ problem: null }]);
  });

  test.each<[string, (folder: string) => void]>([
    [
      'weights cut short',
      (folder) =>
        writeFileSync(
          path.join(folder, 'model.safetensors'),
          readFileSync(path.join(folder, 'model.safetensors')).subarray(0, 5000),
        ),
    ],
    [
      'weights with bytes left over',
      (folder) => appendFileSync(path.join(folder, 'model.safetensors'), 'more'),
    ],
    ['no weights', (folder) => rmSync(path.join(folder, 'model.safetensors'))],
    ['no configuration', (folder) => rmSync(path.join(folder, 'config.json'))],
    ['a configuration that is no JSON', (folder) => writeFileSync(path.join(folder, 'config.json'), '{')],
    [
      'a folder in the place of the weights',
      (folder) => {
        rmSync(path.join(folder, 'model.safetensors'));
        mkdirSync(path.join(folder, 'model.safetensors'));
      },
    ],
  ])('meets %s', async (_what, damage) => {
    using place = workplace();
    const copy = place.copyOf('dinov2');
    damage(copy);

    await expect(place.catalogue.import(copy)).rejects.toMatchObject({ code: 'MODEL_FILE_INVALID' });

    expect(installed(place.models)).toEqual([]);
  });

  test('finds nothing at the path', async () => {
    using place = workplace();

    await expect(place.catalogue.import(path.join(place.dir, 'nothing'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });

    expect(installed(place.models)).toEqual([]);
  });

  test('is given a setting of another format', async () => {
    using place = workplace();

    await expect(place.catalogue.import(dinov2, { output: 'x' })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('"output"'),
    });
  });

  test('would not fit on the disk', async () => {
    using place = workplace();
    const copy = place.copyOf('dinov2');
    // A file of holes: as long as a disk, without taking its place.
    truncateSync(path.join(copy, 'model.safetensors'), 2 ** 43);

    await expect(place.catalogue.import(copy)).rejects.toMatchObject({ code: 'DISK_FULL' });

    expect(installed(place.models)).toEqual([]);
  });

  // A limit on the size of files stops a write half-way, as a full disk does.
  test.skipIf(process.platform === 'win32')('cannot write all of it', () => {
    using place = workplace();
    const script = path.join(place.dir, 'import.mjs');
    writeFileSync(
      script,
      `import { createCatalogue } from ${JSON.stringify(path.resolve('core/models/catalogue.ts'))};
      process.on('SIGXFSZ', () => {});
      await createCatalogue(process.argv[2]).import(process.argv[3]).catch((error) => console.log(error.code));`,
    );

    const output = execFileSync(
      'sh',
      ['-c', 'ulimit -f 8; exec "$@"', 'sh', process.execPath, script, place.models, dinov2],
      { encoding: 'utf8' },
    );

    expect(output.trim()).toBe('DISK_FULL');
    expect(installed(place.models)).toEqual([]);
  });

  test('was killed a day ago: the next import sweeps its files, but not those of one at work', async () => {
    using place = workplace();
    const [old, fresh] = ['.importing-old', '.importing-fresh'].map((name) => path.join(place.models, name));
    for (const folder of [old!, fresh!]) mkdirSync(folder, { recursive: true });
    utimesSync(old!, 0, 0);

    await place.catalogue.import(dinov2);

    expect(installed(place.models).sort()).toEqual(['.importing-fresh', 'dinov2']);
    expect((await place.catalogue.list()).map((entry) => entry.id)).toEqual([defaultBaseId, 'dinov2']);
  });
});

describe('a damaged installed model', () => {
  const damages: [string, (folder: string) => void][] = [
    [
      'a changed byte',
      (folder) => {
        const file = path.join(folder, 'model.safetensors');
        const bytes = readFileSync(file);
        bytes[bytes.length - 2]! ^= 1;
        writeFileSync(file, bytes);
      },
    ],
    ['a file cut short', (folder) => writeFileSync(path.join(folder, 'config.json'), '{}')],
    ['a file that is gone', (folder) => rmSync(path.join(folder, 'model.safetensors'))],
    [
      'a manifest of another model',
      (folder) => {
        const file = path.join(folder, 'anneal-model.json');
        writeFileSync(file, readFileSync(file, 'utf8').replace('"id": "dinov2"', '"id": "other"'));
      },
    ],
    [
      'a manifest that is no JSON',
      (folder) => writeFileSync(path.join(folder, 'anneal-model.json'), '<html>'),
    ],
  ];

  test.each(damages)('with %s is named by verify and not loaded', async (_what, damage) => {
    using place = workplace();
    await place.catalogue.import(dinov2);
    await place.catalogue.import(fixture('timm-mean'));
    damage(path.join(place.models, 'dinov2'));

    const checks = await place.catalogue.verify();

    expect(checks.map(({ id, problem }) => [id, problem?.code ?? null])).toEqual([
      [defaultBaseId, null],
      ['dinov2', 'MODEL_FILE_INVALID'],
      ['timm-mean', null],
    ]);
    await expect(createCatalogue(place.models).load('dinov2')).rejects.toMatchObject({
      code: 'MODEL_FILE_INVALID',
    });
  });

  test('of which only an empty folder is left is named by verify', async () => {
    using place = workplace();
    mkdirSync(path.join(place.models, 'empty'), { recursive: true });

    expect(await place.catalogue.verify('empty')).toMatchObject([
      { problem: { code: 'MODEL_FILE_INVALID' } },
    ]);
    await expect(place.catalogue.verify('nothing')).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' });
  });
});
