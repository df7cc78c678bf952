/** The simulation's images: imported once, as a site imports them, into crops that all simulated sites share. */
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { endOfPeriod, machineTimeZone, startOfPeriod } from '../consent/period.ts';
import { generateDemoFaces } from '../data/demo-faces.ts';
import type { FaceDetector } from '../data/faces.ts';
import type { ImportProgress } from '../data/import-folder.ts';
import { prepareImages } from '../data/import-images.ts';
import { readLabelsCsv } from '../data/labels-csv.ts';
import { assignSplits } from '../data/split.ts';
import type { LabelConsent, LabelRow } from '../data/tables/rows.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { jsonText } from '../shared/text.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { createBlobStore } from '../store/blobs.ts';
import { cropKindSchema, splitSchema } from '../store/records.ts';
import type { Experiment } from './experiment.ts';

const simulationImageSchema = z.object({
  /** As the labels CSV names it. */
  file: z.string(),
  /** Of the original file's bytes. */
  sha256: z.string(),
  cropSha256: z.string(),
  cropKind: cropKindSchema,
  label: z.string(),
  subject: z.string(),
  split: splitSchema,
  width: z.int(),
  height: z.int(),
});
export type SimulationImage = z.infer<typeof simulationImageSchema>;

export interface SimulationData {
  images: readonly SimulationImage[];
  /** Holds the crops. */
  blobs: BlobStore;
  /** Images that the import kept aside: without exactly one face. */
  setAside: number;
  /** Images left out because their subject's consent is missing or over. */
  withoutConsent: number;
  labelsFile: string;
}

const indexSchema = z.object({
  version: z.literal(2),
  setAside: z.int(),
  withoutConsent: z.int(),
  images: z.array(simulationImageSchema),
});
const indexName = 'images.json';

export interface PrepareDataOptions {
  data: Experiment['data'];
  /** Folder for imported data; one folder is made in it for each way of importing. */
  folder: string;
  /** For photographs. */
  startDetector: () => Promise<FaceDetector>;
  onProgress?: ((progress: ImportProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Imports the experiment's images, or opens what an earlier call imported from the same files.
 * Where the CSV speaks of consent, only images with an active one are used; where it does not, the simulation records one
 * for everybody when it fills the sites.
 * @throws AppError as `readLabelsCsv` and `prepareImages`; NOT_ENOUGH_DATA; DISK_FULL; CANCELLED
 */
export async function prepareData(options: PrepareDataOptions): Promise<SimulationData> {
  const { data } = options;
  const key = hashJson({ version: 2, data: await describeSource(data) });
  const folder = join(options.folder, key.slice(0, 16));
  const known = await readIndex(join(folder, indexName));
  const labelsFile = data.labels ?? join(folder, 'faces', 'hospital-1', 'labels.csv');
  if (known === null) {
    // What an import that was broken off left behind.
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true });
  }
  const blobs = createBlobStore(join(folder, 'blobs'), { durability: 'process' });
  const index =
    known ??
    (await importOnce(options, folder, labelsFile, blobs).catch(async (error) => {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }));
  const { images, setAside, withoutConsent } = index;
  if (images.length === 0) {
    throw new AppError('NOT_ENOUGH_DATA', 'The experiment has no usable images.');
  }
  return { images, blobs, setAside, withoutConsent, labelsFile };
}

/** What the crops follow from, without reading the images: names, sizes and times of the files. */
async function describeSource(data: Experiment['data']): Promise<unknown> {
  const { images, labels, alreadyCropped, faces, seed } = data;
  if (images === undefined || labels === undefined) return { faces, seed };
  const rows = await readLabelsCsv(labels);
  const files = [];
  for (const row of rows) {
    const status = await stat(join(images, row.file)).catch(() => null);
    files.push([row, status?.size ?? null, status?.mtimeMs ?? null]);
  }
  return { images, alreadyCropped, seed, files };
}

async function readIndex(file: string): Promise<z.infer<typeof indexSchema> | null> {
  const text = await readFile(file, 'utf8').catch(() => null);
  return jsonText.pipe(indexSchema).safeParse(text).data ?? null;
}

async function importOnce(
  { data, startDetector, onProgress, signal }: PrepareDataOptions,
  folder: string,
  labelsFile: string,
  blobs: BlobStore,
): Promise<z.infer<typeof indexSchema>> {
  const generated = data.faces;
  let imagesFolder = data.images;
  if (generated !== undefined) {
    const [site] = await generateDemoFaces({
      outFolder: join(folder, 'faces'),
      sites: 1,
      seed: data.seed,
      subjectsPerSite: generated.subjects,
      imagesPerSubject: generated.imagesPerSubject,
      withdrawnPerSite: 0,
      signal,
    });
    imagesFolder = site!.imagesFolder;
  }
  const rows = await readLabelsCsv(labelsFile);
  const prepared = await prepareImages(rows, {
    blobs,
    imagesFolder: imagesFolder!,
    labelsName: basename(labelsFile),
    startDetector,
    alreadyCropped: data.alreadyCropped || generated !== undefined,
    existing: () => null,
    onProgress,
    signal,
  });
  const splits = assignSplits(
    prepared.images.map(({ row: { subject, label, split }, sha256 }) => ({
      key: sha256,
      subject,
      label,
      split,
    })),
    { seed: data.seed },
  );
  const isAllowed = consentedRows(rows);
  const index: z.infer<typeof indexSchema> = {
    ...{ version: 2, setAside: prepared.unread.length, withoutConsent: 0 },
    images: [],
  };
  prepared.images.forEach(({ row, sha256, cropSha256, cropKind, width, height }, position) => {
    const { file, label, subject } = row;
    const split = splits[position]!;
    if (cropSha256 === null || cropKind === null) index.setAside += 1;
    else if (!isAllowed(row)) index.withoutConsent += 1;
    else index.images.push({ file, sha256, cropSha256, cropKind, label, subject, split, width, height });
  });
  // One order, whatever the CSV's: what is drawn by chance must not depend on it.
  index.images.sort((a, b) => (a.sha256 < b.sha256 ? -1 : 1));
  try {
    await writeFileAtomically(join(folder, indexName), new TextEncoder().encode(JSON.stringify(index)));
  } catch (error) {
    throw toAppError(error);
  }
  return index;
}

/** As a site judges the consents that its CSV tells of; everybody's when it tells of none. */
function consentedRows(rows: readonly LabelRow[]): (row: LabelRow) => boolean {
  if (rows.every(({ consent }) => consent === null)) return () => true;
  const at = new Date().toISOString();
  const active = new Set(
    rows.filter(({ consent }) => consent !== null && isActive(consent, at)).map(({ subject }) => subject),
  );
  return ({ subject }) => active.has(subject);
}

function isActive({ kind, validFrom, expiresAt }: LabelConsent, at: string): boolean {
  const zone = machineTimeZone();
  const hasBegun = validFrom === null || startOfPeriod(zone).parse(validFrom) <= at;
  const isOver = expiresAt !== null && endOfPeriod(zone).parse(expiresAt) <= at;
  return kind === 'granted' && hasBegun && !isOver;
}
