/** The leak test on real networks, and what an import makes of it. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { hardlyCompresses, type LeakReport, leakReportSchema } from '../../core/config/leak-report.ts';
import { createCatalogue, defaultBaseId } from '../../core/models/catalogue.ts';
import { openOnnxModel } from '../../core/models/onnx/onnx-model.ts';
import { openVitFolder } from '../../core/models/vit-folder.ts';
import { measureEmbeddingLength, measureLeak } from '../../core/policy/leak-test.ts';
import { runLeakTest } from '../../core/policy/leak-test-run.ts';
import { createLeakTests } from '../../core/policy/leak-test-service.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { type CommandLine, openCommandLine } from '../fixtures/command-line.ts';
import { attackFile, deepWide, leakyBases, sketchBase } from '../fixtures/leaky-networks.ts';
import { encodeModel, halves, writeModel } from '../fixtures/onnx-files.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const shared = path.join(import.meta.dirname, '../../../shared/models');
const mobileFaceNet = path.join(shared, 'onnx/mobilefacenet-112.onnx');
const vitTiny = path.join(shared, 'vit-tiny-patch16-224');
const dinov2 = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));
vi.setConfig({ testTimeout: 240_000 });
/** The file of the attack does not say how its pixels are normalised. */
const pixels = ['--mean', '0.5', '--std', '0.5'];

/** In this process, for more than one test. */
let measured: Promise<LeakReport> | undefined;
const measureBuiltIn = () => {
  measured ??= loadBaseModel(defaultBaseId).then((base) => measureLeak(base));
  return measured;
};

describe('networks that pass the image on', () => {
  test.each(leakyBases)('$id hardly compresses', async (base) => {
    const report = leakReportSchema.parse(await measureLeak(base));

    expect(report.correlation).toBeGreaterThan(0.6);
    expect(hardlyCompresses(report)).toBe(true);
  });
});

describe('networks that compress', () => {
  test('face-resnet-128', async () => {
    const report = await measureBuiltIn();

    expect(report).toMatchObject({ embeddingSize: 128, inputValues: 67_500, layers: 30 });
    expect(report.correlation).toBeGreaterThan(0.1);
    expect(report.correlation).toBeLessThan(0.3);
    expect(hardlyCompresses(report)).toBe(false);
  });

  test('a deep one with 2,048 pooled numbers', async () => {
    const report = await measureLeak(deepWide);

    expect(report.correlation).toBeLessThan(0.55);
    expect(hardlyCompresses(report)).toBe(false);
  });

  test.skipIf(!existsSync(mobileFaceNet))('MobileFaceNet (skipped without ../shared/models)', async () => {
    const base = await openOnnxModel(mobileFaceNet, { id: 'mobilefacenet', licence: 'test', ...halves });
    const report = await measureLeak(base);

    expect(report.correlation).toBeLessThan(0.3);
    expect(hardlyCompresses(report)).toBe(false);
  });

  test.skipIf(!existsSync(vitTiny))('ViT-Tiny (skipped without ../shared/models)', async () => {
    const report = await measureLeak(await openVitFolder(vitTiny, { id: 'vit-tiny', licence: 'test' }));

    expect(report.correlation).toBeLessThan(0.35);
    expect(hardlyCompresses(report)).toBe(false);
  });
});

test('says how long embeddings of faces are, as the built-in network has it written down', async () => {
  const base = await createCatalogue().load('face-resnet-128');

  expect(await measureEmbeddingLength(base)).toBe(base.embeddingLength);
});

test('a network that gives no numbers is no model', async () => {
  const base = sketchBase('nothing', 16, (builder, pixels) =>
    builder.flatten(builder.log(builder.sub(pixels, builder.scalar(300)))),
  );

  await expect(measureLeak(base)).rejects.toMatchObject({
    code: 'MODEL_UNSUITABLE',
    message: expect.stringContaining('"nothing"'),
  });
});

describe('anneal models', () => {
  let line: CommandLine;
  let attack: string;
  beforeAll(async () => {
    line = openCommandLine();
    attack = await writeModel(attackFile(32), 'face-net.onnx');
  });
  afterAll(() => line[Symbol.asyncDispose]());
  const modelsOf = (data: string) => path.join(line.folder, data, 'models');

  test('the attack: a file of a few hundred bytes that hands on the image is not installed', async () => {
    expect(encodeModel(attackFile(32)).length).toBeLessThan(400);

    const refused = await line.anneal('attacked', 'models', 'import', attack, ...pixels, '--json');

    expect(refused.code).toBe(1);
    const { error } = JSON.parse(refused.stdout) as {
      error: { code: string; message: string; action: string };
    };
    expect(error.code).toBe('MODEL_LEAKS');
    expect(error.message).toMatch(
      /"face-net" hardly compresses images: .*correlate 0\.[789]\d with the originals/,
    );
    expect(error.action).toContain('--allow-leak');
    expect(readdirSync(modelsOf('attacked'))).toEqual([]);
  });

  test('who insists gets it, with its figures', async () => {
    const imported = await line.anneal('insists', 'models', 'import', attack, ...pixels, '--allow-leak');
    const listed = await line.anneal('insists', 'models', 'list', '--json');
    const again = await line.anneal('insists', 'models', 'import', attack, ...pixels);

    expect(imported).toMatchObject({ code: 0 });
    expect(imported.stdout).toContain('this network hardly compresses');
    const entries = JSON.parse(listed.stdout) as { id: string; leak: unknown }[];
    const leak = leakReportSchema.parse(entries.find(({ id }) => id === 'face-net')!.leak);
    expect(leak).toMatchObject({ embeddingSize: 1_024, inputValues: 3_072, layers: 1 });
    expect(entries.find(({ id }) => id === defaultBaseId)!.leak).toBeNull();
    // The same model again, without the word: it stays, and the command says what it is.
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('hardly compresses') });
    expect(readdirSync(modelsOf('insists'))).toEqual(['face-net']);
  });

  test('a model imported before there was a leak test is measured at the first need, and once', async () => {
    const catalogue = createCatalogue(modelsOf('older'));
    await catalogue.import(dinov2);
    const manifestFile = path.join(modelsOf('older'), 'dinov2', 'anneal-model.json');
    expect(readFileSync(manifestFile, 'utf8')).not.toContain('leak');

    const first = await line.anneal('older', 'models', 'inspect', 'dinov2', '--json');
    const kept = JSON.parse(await readFile(manifestFile, 'utf8')) as { leak: unknown };

    const { leak } = JSON.parse(first.stdout) as { leak: unknown };
    expect(leakReportSchema.parse(leak)).toMatchObject({ embeddingSize: 12, inputValues: 768, layers: 9 });
    expect(kept.leak).toEqual(leak);
    expect(await catalogue.verify('dinov2')).toMatchObject([{ problem: null }]);
    // What is kept is shown, not measured again.
    const altered = { ...kept, leak: { ...(kept.leak as object), correlation: 0.123 } };
    writeFileSync(manifestFile, JSON.stringify(altered));
    const second = await line.anneal('older', 'models', 'inspect', 'dinov2', '--json');
    expect(JSON.parse(second.stdout)).toMatchObject({ leak: { correlation: 0.123 } });
  });
});

describe('the reports of an installation', () => {
  test('a built-in model is measured once, for all who ask at the same time, and kept', async () => {
    using folder = temporaryFolder();
    const modelsFolder = path.join(folder.dir, 'data', 'models');
    const tests = createLeakTests({ catalogue: createCatalogue(modelsFolder), modelsFolder });
    const steps = new Set<string>();
    const shares: number[] = [];

    // Whichever of the two comes first hears of it.
    const ask = () =>
      tests.leakOf(defaultBaseId, {
        onProgress: ({ step, share }) => {
          steps.add(step);
          shares.push(share);
        },
      });

    const [first, second] = await Promise.all([ask(), ask()]);

    expect(second).toBe(first);
    // The same figures from another process.
    expect(first).toEqual(await measureBuiltIn());
    expect([...steps]).toContain('computing embeddings');
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(await createCatalogue(modelsFolder).keptLeak(defaultBaseId)).toEqual(first);
    // A cache that cannot be read counts as empty.
    const cache = path.join(modelsFolder, 'built-in-leaks.json');
    for (const damage of ['{', JSON.stringify({ formatVersion: 1, reports: [{ sha256: 'x' }] })]) {
      writeFileSync(cache, damage);
      expect(await createCatalogue(modelsFolder).keptLeak(defaultBaseId)).toBeNull();
    }
  });

  test('a report of another version of the test, or none that can be read, is none', async () => {
    using folder = temporaryFolder();
    const catalogue = createCatalogue(folder.dir);
    const { sha256 } = await catalogue.import(dinov2);
    const report = { testVersion: 1, correlation: 0.2, ssim: 0.2, meanFaceSsim: 0.1 };
    const leak = { ...report, embeddingSize: 12, inputValues: 768, layers: 9, heldOutFaces: 112 };
    await catalogue.keepLeak('dinov2', sha256, leak);
    expect(await catalogue.keptLeak('dinov2')).toEqual(leak);

    await catalogue.keepLeak('dinov2', 'f'.repeat(64), { ...leak, correlation: 0 });
    expect(await catalogue.keptLeak('dinov2')).toEqual(leak);
    await catalogue.keepLeak('dinov2', sha256, { ...leak, testVersion: 2 });
    expect(await catalogue.keptLeak('dinov2')).toBeNull();
    const file = path.join(folder.dir, 'dinov2', 'anneal-model.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), leak: 'none' }));
    expect(await catalogue.keptLeak('dinov2')).toBeNull();
    expect((await catalogue.load('dinov2')).sha256).toBe(sha256);
    await expect(catalogue.keptLeak('nobody')).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' });
  });

  test('an import that is stopped while it measures leaves nothing behind', async () => {
    using folder = temporaryFolder();
    const tests = createLeakTests({ catalogue: createCatalogue(folder.dir), modelsFolder: folder.dir });
    const stop = new AbortController();

    const importing = tests.import(dinov2, {}, { signal: stop.signal, onProgress: () => stop.abort() });

    await expect(importing).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(folder.dir)).toEqual([]);
    expect(leakProcesses()).toEqual([]);
  });
});

describe('the process of a leak test', () => {
  test('what is wrong with the model comes back as it is', async () => {
    await expect(runLeakTest({ kind: 'installed', id: 'nobody' })).rejects.toMatchObject({
      code: 'MODEL_UNKNOWN',
      message: expect.stringContaining('nobody'),
    });
  });

  test.skipIf(process.platform !== 'linux')('one that is killed gives a sentence', async () => {
    const killed = runLeakTest(
      { kind: 'installed', id: defaultBaseId },
      {
        onProgress() {
          for (const pid of leakProcesses()) process.kill(pid, 'SIGKILL');
        },
      },
    );

    await expect(killed).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: expect.stringContaining('ran out of memory'),
    });
  });
});

/** Children of this process that measure. */
function leakProcesses(): number[] {
  if (process.platform !== 'linux') return [];
  return readdirSync(`/proc/${process.pid}/task`)
    .flatMap((task) => readFileSync(`/proc/${process.pid}/task/${task}/children`, 'utf8').trim().split(' '))
    .filter((pid) => pid !== '' && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('leak-test-process'))
    .map(Number);
}
