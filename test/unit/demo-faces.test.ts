import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeImage } from '../../core/data/decode.ts';
import { drawAnatomy } from '../../core/data/demo-anatomy.ts';
import { demoLabels, generateDemoFaces, planDemoSubjects } from '../../core/data/demo-faces.ts';
import { readLabelsCsv } from '../../core/data/labels-csv.ts';
import { AppError } from '../../core/shared/errors.ts';
import { sha256 } from '../../core/shared/hash.ts';
import { createRandom } from '../../core/shared/random.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-demo-faces-'));
});
afterAll(() => rm(folder, { recursive: true }));

const small = { sites: 2, subjectsPerSite: 10, imagesPerSubject: 2, size: 64 };

async function hashesOf(outFolder: string): Promise<Record<string, string>> {
  const files = await readdir(outFolder, { recursive: true, withFileTypes: true });
  const hashes: Record<string, string> = {};
  for (const file of files.filter((entry) => entry.isFile())) {
    const path = join(file.parentPath, file.name);
    hashes[path.slice(outFolder.length)] = sha256(await readFile(path));
  }
  return hashes;
}

describe('generateDemoFaces', () => {
  test('writes the same files for the same seed, and others for another', async () => {
    const [a, b, c] = ['a', 'b', 'c'].map((name) => join(folder, name)) as [string, string, string];
    await generateDemoFaces({ ...small, outFolder: a, seed: 5 });
    await generateDemoFaces({ ...small, outFolder: b, seed: 5 });
    await generateDemoFaces({ ...small, outFolder: c, seed: 6 });

    const [first, second, third] = [await hashesOf(a), await hashesOf(b), await hashesOf(c)];

    expect(Object.keys(first)).toHaveLength(2 * 10 * 2 + 2);
    expect(second).toEqual(first);
    const images = new Set(Object.values(first));
    expect(images.size).toBe(42);
    expect(Object.values(third).filter((hash) => images.has(hash))).toEqual([]);
  });

  test('writes images that can be read and a CSV that agrees with its report', async () => {
    const outFolder = join(folder, 'csv');
    const sites = await generateDemoFaces({ ...small, outFolder, seed: 5 });

    expect(sites.map(({ name }) => name)).toEqual(['hospital-1', 'hospital-2']);
    for (const site of sites) {
      const rows = await readLabelsCsv(site.labelsFile, { allowedLabels: demoLabels });
      expect((await readdir(site.imagesFolder)).sort()).toEqual(rows.map(({ file }) => file).sort());
      const withdrawn = rows.filter(({ consent }) => consent?.kind === 'withdrawn');
      expect(new Set(withdrawn.map(({ subject }) => subject)).size).toBe(1);
      const counts = Object.values(site.byLabel).reduce((sum, { train, test }) => sum + train + test, 0);
      expect(counts).toBe(rows.length - withdrawn.length);
      const first = await readFile(join(site.imagesFolder, rows[0]!.file));
      const { width, height } = await decodeImage(first, rows[0]!.file);
      expect([width, height]).toEqual([64, 64]);
    }
  });

  test('stops when asked to', async () => {
    const controller = new AbortController();
    const work = generateDemoFaces({
      ...small,
      outFolder: join(folder, 'stopped'),
      seed: 1,
      signal: controller.signal,
      onProgress: ({ done }) => done === 3 && controller.abort(),
    });
    const error = await work.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).code).toBe('CANCELLED');
  });
});

describe('the plan of the demo', () => {
  test('has every class equally often, unevenly spread, and no subject at two sites or on two sides', () => {
    for (let seed = 0; seed < 20; seed++) {
      const subjects = planDemoSubjects({ outFolder: '', sites: 3, seed });

      expect(subjects).toHaveLength(288);
      expect(new Set(subjects.map(({ pseudonym }) => pseudonym)).size).toBe(288);
      let unevenness = 0;
      for (const label of demoLabels) {
        const bySite = [0, 1, 2].map((site) => subjects.filter((s) => s.label === label && s.site === site));
        expect(bySite.flat()).toHaveLength(72);
        unevenness = Math.max(unevenness, ...bySite.map((members) => members.length / 72));
        // What a site holds out of a class it also trains on.
        for (const members of bySite) {
          if (members.length > 0) expect(members.some(({ split }) => split === 'train')).toBe(true);
        }
      }
      expect(unevenness).toBeGreaterThan(0.45);
      for (const site of [0, 1, 2]) {
        const members = subjects.filter((subject) => subject.site === site);
        expect(members.length).toBeGreaterThanOrEqual(68);
        const heldOut = members.filter(({ split }) => split === 'test').length / members.length;
        expect(heldOut).toBeGreaterThan(0.2);
        expect(heldOut).toBeLessThan(0.28);
      }
    }
  });
});

test('classes differ in anatomy by more than people of one class do', () => {
  const mean = (label: string, trait: 'eyeSpacing' | 'mouthWidth') => {
    const random = createRandom(9);
    const values = Array.from({ length: 400 }, () => drawAnatomy(label, random)[trait]);
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const spacing = demoLabels.map((label) => mean(label, 'eyeSpacing'));
  // unaffected, alder (wide), birch (close), cedar (as unaffected)
  expect(spacing[1]! - spacing[0]!).toBeGreaterThan(5);
  expect(spacing[0]! - spacing[2]!).toBeGreaterThan(5);
  expect(Math.abs(spacing[3]! - spacing[0]!)).toBeLessThan(1);
  expect(() => drawAnatomy('nobody', createRandom(1))).toThrow(RangeError);
});
