/** First half of an import: every image is found, decoded and cropped before anything is recorded. */
import { open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import pMap, { pMapIterable } from 'p-map';
import { AppError, toAppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { FaceBox, ImageRecord } from '../store/records.ts';
import { encodeCrop } from './crop-file.ts';
import { decodeImage, defaultDecodeLimits, fitToSquare, type RgbImage, tooLargeFile } from './decode.ts';
import { alignFace, createFaceDetector, type FaceDetector } from './faces.ts';
import type { LabelRow } from './labels-csv.ts';

/** An image as it will be recorded. */
export interface PreparedImage {
  row: LabelRow;
  sha256: string;
  /** Null when the image is kept aside. */
  cropSha256: string | null;
  /** Why it is kept aside. */
  reason: string | null;
  faceBox: FaceBox | null;
  width: number;
  height: number;
  /** The row of the dataset that holds these bytes set aside, to be made ready. */
  restores: ImageRecord | null;
}

export interface PrepareOptions {
  blobs: BlobStore;
  imagesFolder: string;
  labelsName: string;
  inputSize: number;
  alreadyCropped: boolean;
  /** The dataset's image with these bytes, if it has one. */
  existing(sha256: string): ImageRecord | null;
  /** Takes the hashes of the crops: the caller deletes them when the import comes to nothing. */
  written?: Set<string> | undefined;
  detector?: FaceDetector | undefined;
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface PreparedImport {
  images: PreparedImage[];
  alreadyThere: number;
}

/**
 * So many are decoded, cropped and written at the same time: decoding takes the processor, writing waits for the
 * disk. More would only take more memory.
 */
const imagesAtOnce = 8;
/** Files that are read before their turn, so that decoding never waits for the disk. */
const filesAhead = 4;

/**
 * Decodes all images and writes their crops to the blob store. After an error nothing is still being written.
 * @throws AppError IMAGES_MISSING, IMAGE_UNREADABLE, IMAGE_TOO_LARGE, CSV_MALFORMED (one image under two
 *   subjects or labels), DISK_FULL, CANCELLED
 */
export async function prepareImages(
  rows: readonly LabelRow[],
  options: PrepareOptions,
): Promise<PreparedImport> {
  await checkFiles(rows, options.imagesFolder);
  // Started with the first image that needs it: an import of crops never loads the networks.
  let owned: Promise<FaceDetector> | null = null;
  const detector = async () => {
    if (options.detector) return options.detector;
    owned ??= createFaceDetector();
    return owned;
  };
  const firstRow = new Map<string, LabelRow>();
  const images: PreparedImage[] = [];
  let alreadyThere = 0;
  const advance = () => options.onProgress?.({ done: images.length + alreadyThere, total: rows.length });

  async function prepare(found: FoundImage): Promise<PreparedImage> {
    const { row, bytes, hash, existing } = found;
    const image = await decodeImage(bytes, basename(row.file));
    const crop = options.alreadyCropped
      ? { square: await fitToSquare(image, options.inputSize), faceBox: null, reason: null }
      : await cropOnlyFace(image, await detector(), options.inputSize);
    const cropSha256 = crop.square && (await options.blobs.put(encodeCrop(crop.square), { unsettled: true }));
    if (cropSha256 !== null) options.written?.add(cropSha256);
    const { width, height } = image;
    const { reason, faceBox } = crop;
    return { row, sha256: hash, cropSha256, reason, faceBox, width, height, restores: existing };
  }

  /** In the order of the rows, whichever is ready first. */
  const underWay: Promise<PreparedImage>[] = [];
  const takeOldest = async () => {
    images.push(await underWay[0]!);
    underWay.shift();
    advance();
  };
  try {
    const files = pMapIterable(
      rows,
      async (row) => ({ row, bytes: await readImage(options.imagesFolder, row.file) }),
      { concurrency: filesAhead },
    );
    for await (const { row, bytes } of files) {
      checkNotCancelled(options.signal);
      const hash = sha256(bytes);
      const existing = options.existing(hash);
      const same = firstRow.get(hash) ?? (existing && fromRecord(existing));
      if (same) checkSameImage(row, same, options.labelsName);
      const retry = existing?.status === 'set-aside' && options.alreadyCropped;
      if (firstRow.has(hash) || (existing && !retry)) {
        alreadyThere += 1;
        advance();
      } else {
        underWay.push(prepare({ row, bytes, hash, existing }));
        // A failure is looked at when its turn comes.
        underWay.at(-1)!.catch(() => {});
      }
      firstRow.set(hash, firstRow.get(hash) ?? row);
      if (underWay.length === imagesAtOnce) await takeOldest();
    }
    while (underWay.length > 0) await takeOldest();
    // Once for all of them: nothing names a crop before the caller records it.
    await options.blobs.settle();
    checkNotCancelled(options.signal);
    return { images, alreadyThere };
  } catch (error) {
    // Of two failures the earlier row's is reported.
    const settled = await Promise.allSettled(underWay);
    const earliest = settled.find((outcome) => outcome.status === 'rejected');
    throw toAppError(earliest?.reason ?? error);
  } finally {
    await (owned as Promise<FaceDetector> | null)?.then((started) => started.close()).catch(() => {});
  }
}

/** A row whose file was read and is new. */
interface FoundImage {
  row: LabelRow;
  bytes: Uint8Array;
  hash: string;
  existing: ImageRecord | null;
}

interface Crop {
  square: RgbImage | null;
  faceBox: FaceBox | null;
  reason: string | null;
}

async function cropOnlyFace(image: RgbImage, detector: FaceDetector, size: number): Promise<Crop> {
  const faces = await detector.detect(image);
  const [face] = faces;
  if (!face) return { square: null, faceBox: null, reason: 'no face found' };
  if (faces.length > 1) return { square: null, faceBox: null, reason: `${faces.length} faces found` };
  return { square: await alignFace(image, face, size), faceBox: face.box, reason: null };
}

function checkNotCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AppError('CANCELLED', 'The import was stopped; nothing was imported.');
}

/** Before a single image is decoded: a missing file is reported at once, not after an hour. */
async function checkFiles(rows: readonly LabelRow[], imagesFolder: string): Promise<void> {
  const folder = await stat(imagesFolder).catch(() => null);
  if (!folder?.isDirectory()) {
    throw new AppError('IMAGES_MISSING', `The image folder "${basename(imagesFolder)}" does not exist.`);
  }
  const files = await pMap(rows, ({ file }) => stat(join(imagesFolder, file)).catch(() => null), {
    concurrency: imagesAtOnce,
  });
  const [first, ...others] = rows.filter((_, index) => files[index]?.isFile() !== true);
  if (first) {
    const more = others.length > 0 ? `, and ${others.length} more` : '';
    throw new AppError(
      'IMAGES_MISSING',
      `The image "${first.file}" of line ${first.line} is not in the image folder${more}.`,
    );
  }
  const tooLarge = rows.find((_, index) => files[index]!.size > defaultDecodeLimits.maxFileBytes);
  if (tooLarge) throw tooLargeFile(basename(tooLarge.file));
}

async function readImage(imagesFolder: string, file: string): Promise<Uint8Array> {
  try {
    const opened = await open(join(imagesFolder, file), 'r');
    try {
      // It may have been replaced since it was looked at first.
      if ((await opened.stat()).size > defaultDecodeLimits.maxFileBytes) throw tooLargeFile(basename(file));
      return await opened.readFile();
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('IMAGE_UNREADABLE', `The image "${file}" could not be read from the disk.`, {
      action: 'Check that you may read the file, then import again.',
      cause: error,
    });
  }
}

interface SeenImage {
  subject: string;
  label: string;
  /** Where it was seen, in words. */
  where: string;
}

const fromRecord = (record: ImageRecord): SeenImage => ({
  subject: record.pseudonym,
  label: record.label,
  where: `the image "${record.sourceName}" imported before`,
});

/** The same bytes under another subject or label would train the model on a contradiction. */
function checkSameImage(row: LabelRow, same: LabelRow | SeenImage, labelsName: string): void {
  if (row.subject === same.subject && row.label === same.label) return;
  const column = row.subject === same.subject ? 'label' : 'subject';
  const other = 'where' in same ? same.where : `"${same.file}" in line ${same.line}`;
  throw new AppError(
    'CSV_MALFORMED',
    `${labelsName}, line ${row.line}, column "${column}": "${row.file}" is the same image as ${other}, with a different ${column}.`,
  );
}
