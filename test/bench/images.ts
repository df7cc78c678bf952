/**
 * How fast images reach a training: import, decoding and augmentation as the product does them, each alone.
 * Arguments: FOLDER SIDE. Writes one line of JSON.
 */
import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { generateDemoFaces } from '../../core/data/demo-faces.ts';
import { prepareImages } from '../../core/data/import-images.ts';
import { readLabelsCsv } from '../../core/data/labels-csv.ts';
import type { LabelRow } from '../../core/data/tables/rows.ts';
import { augmentationOf, drawAugmentation } from '../../core/engine/augmentation.ts';
import { createFaceDetector } from '../../core/engine/faces/detector.ts';
import { createPixelSource, type PixelSample } from '../../core/engine/pixel-source.ts';
import { createRandom } from '../../core/shared/random.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { median } from './median.ts';

const [folder = '', sideText = ''] = process.argv.slice(2);
const side = Number(sideText);
const shape = { side, alignment: 'dlib-150' } as const;
const batch = 16;
const subjects = 64;
const photographRounds = 2;
/** Each with an empty store and a new thread; the median is taken. One round lasts under a second. */
const rounds = 5;
const cacheBytes = 2 ** 30;

const [site] = await generateDemoFaces({
  outFolder: join(folder, 'faces'),
  sites: 1,
  seed: 1,
  size: side,
  subjectsPerSite: subjects,
});
const rows = await readLabelsCsv(site!.labelsFile);

const crops = [];
for (let round = 0; round < rounds; round++) {
  const blobs = createBlobStore(join(folder, `blobs-${round}`));
  const imported = await timed(rows.length, () => importImages(blobs, rows, site!.imagesFolder, true));
  const epochs = await measureEpochs(blobs.list().map((hash) => blobs.path(hash)));
  crops.push({ imported, ...epochs });
}
const result = {
  importCropsPerSecond: median(crops.map(({ imported }) => imported)),
  importPhotographsPerSecond: await importPhotographs(),
  firstEpochPerSecond: median(crops.map(({ first }) => first)),
  laterEpochsPerSecond: median(crops.map(({ later }) => later)),
};
process.stdout.write(`${JSON.stringify(result)}\n`);

function importImages(
  blobs: BlobStore,
  labels: readonly LabelRow[],
  imagesFolder: string,
  alreadyCropped: boolean,
): Promise<unknown> {
  const options = {
    blobs,
    imagesFolder,
    labelsName: 'labels.csv',
    alreadyCropped,
    startDetector: () => createFaceDetector(),
  };
  return prepareImages(labels, { ...options, existing: () => null });
}

/** The face library's own photographs; starting its networks is part of the first round, which is not counted. */
async function importPhotographs(): Promise<number> {
  const library = createRequire(import.meta.url).resolve('@vladmandic/face-api/package.json');
  const imagesFolder = join(dirname(library), 'demo');
  const files = (await readdir(imagesFolder)).filter((name) => /^sample\d\.jpg$/.test(name));
  const blobs = createBlobStore(join(folder, 'blobs-photographs'));
  const labels = files.map((file, index) => ({ ...rows[0]!, file, subject: file, line: index + 2 }));
  await importImages(blobs, labels.slice(0, 1), imagesFolder, false);
  const startup = await secondsOf(() => importImages(blobs, labels.slice(0, 1), imagesFolder, false));
  let seconds = 0;
  for (let round = 0; round < photographRounds; round++) {
    seconds += (await secondsOf(() => importImages(blobs, labels, imagesFolder, false))) - startup;
  }
  return (photographRounds * (files.length - 1)) / seconds;
}

/** Through the worker thread that trainings use: the first epoch decodes, later ones find their crops in memory. */
async function measureEpochs(files: readonly string[]): Promise<{ first: number; later: number }> {
  const random = createRandom(1);
  const settings = augmentationOf(true)!;
  const source = createPixelSource(cacheBytes);
  let buffer = new Float32Array(batch * 3 * side * side);
  const epoch = async () => {
    for (let start = 0; start < files.length; start += batch) {
      const samples: PixelSample[] = files
        .slice(start, start + batch)
        .map((file) => ({ file, augmentation: drawAugmentation(random, settings) }));
      buffer = await source.fill(samples, shape, buffer);
    }
  };
  // Starts the thread.
  buffer = await source.fill([], shape, buffer);
  const first = await timed(files.length, epoch);
  const later = await timed(files.length, epoch);
  await source.close();
  return { first, later };
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return (performance.now() - startMs) / 1000;
}

async function timed(count: number, work: () => Promise<unknown>): Promise<number> {
  return count / (await secondsOf(work));
}
