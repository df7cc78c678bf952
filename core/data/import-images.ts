/** First half of an import: every image is found, decoded, measured and cropped before anything is recorded. */
import { basename } from 'node:path';
import { pMapIterable } from 'p-map';
import type { ImageLimits } from '../config/site-policy.ts';
import { AppError, type ErrorCode, errorTable, toAppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { pick } from '../shared/pick.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ReconsideredImage } from '../store/image-tables.ts';
import type { AsideKind, ImageRecord } from '../store/records.ts';
import { encodeCrop, encodeRegion } from './crop-file.ts';
import { type DecodedImage, decodeImage, fitToSquare } from './decode.ts';
import { cutRegion, type FaceRegion, largestRegion } from './face-region.ts';
import type { Face, FaceDetector } from './faces.ts';
import { openImageFolder } from './image-files.ts';
import { brokenLimits } from './image-limits.ts';
import { type Measured, measureFace, measurePicture } from './quality.ts';
import type { RgbImage } from './rgb-image.ts';
import type { LabelRow } from './tables/rows.ts';
import { findUprightFaces } from './upright-faces.ts';

/** An image as it will be recorded. */
export interface PreparedImage extends ReconsideredImage {
  row: LabelRow;
  sha256: string;
  /** The row of the dataset that holds these bytes set aside, to be looked at anew. */
  restores: ImageRecord | null;
}

/** A row whose file could not even be read: there is nothing to record. */
export interface UnreadRow {
  row: LabelRow;
  reason: string;
  asideKind: AsideKind;
}

export interface PrepareOptions {
  blobs: BlobStore;
  imagesFolder: string;
  labelsName: string;
  alreadyCropped: boolean;
  /** What the quality of a face must keep; without them it is only measured. */
  limits?: ImageLimits | undefined;
  /** The dataset's image with these bytes, if it has one. */
  existing(sha256: string): ImageRecord | null;
  /** Takes the hashes of the crops: the caller deletes them when the import comes to nothing. */
  written?: Set<string> | undefined;
  /** Starts a detector with the first photograph that needs one; it is closed in the end. */
  startDetector?: (() => Promise<FaceDetector>) | undefined;
  /** A running one, which stays open. */
  detector?: FaceDetector | undefined;
  onProgress?: ((progress: { done: number; total: number }) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface PreparedImport {
  images: PreparedImage[];
  unread: UnreadRow[];
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
 * Decodes all images and writes their crops to the blob store. A file that cannot be used is set aside with the reason,
 * and the others go on. After an error nothing is still being written.
 * @throws AppError IMAGES_MISSING (the folder, or every file), CSV_MALFORMED (one image under two subjects or labels),
 *   DISK_FULL, CANCELLED
 */
export async function prepareImages(
  rows: readonly LabelRow[],
  options: PrepareOptions,
): Promise<PreparedImport> {
  const folder = await openImageFolder(options.imagesFolder, rows);
  // Started with the first image that needs it: an import of crops never loads the networks.
  let owned: Promise<FaceDetector> | null = null;
  const detector = async () => {
    if (options.detector) return options.detector;
    if (options.startDetector === undefined) throw new AppError('INTERNAL', 'There is no face detector.');
    owned ??= options.startDetector();
    return owned;
  };
  const firstRow = new Map<string, LabelRow>();
  const images: PreparedImage[] = [];
  const unread: UnreadRow[] = [];
  let alreadyThere = 0;
  const advance = () =>
    options.onProgress?.({ done: images.length + unread.length + alreadyThere, total: rows.length });

  async function prepare({ row, bytes, hash, existing }: FoundImage): Promise<PreparedImage> {
    const about = { row, sha256: hash, restores: existing };
    const found = await unlessRefused(row, async () => {
      const image = await decodeImage(bytes, basename(row.file));
      return lookAt(image, options.alreadyCropped ? null : await detector(), options);
    });
    if ('asideKind' in found) return { ...unknown, ...about, ...found };
    const { kept, ...looked } = found;
    const cropSha256 = kept && (await options.blobs.put(encode(kept), { unsettled: true }));
    if (cropSha256 !== null) options.written?.add(cropSha256);
    return { ...looked.record, ...about, cropSha256 };
  }

  /** In the order of the rows, whichever is ready first. */
  const underWay: Promise<PreparedImage>[] = [];
  const takeOldest = async () => {
    const image = await underWay[0]!;
    underWay.shift();
    // One that was in use stays so, whatever is found now.
    if (image.restores?.status === 'ready' && image.status !== 'ready') alreadyThere += 1;
    else images.push(image);
    advance();
  };
  try {
    const files = pMapIterable(
      rows,
      async (row) => ({ row, read: await unlessRefused(row, () => folder.read(row.file)) }),
      { concurrency: filesAhead },
    );
    for await (const { row, read } of files) {
      checkNotCancelled(options.signal);
      if (!(read instanceof Uint8Array)) {
        unread.push({ row, reason: read.reason, asideKind: read.asideKind });
        advance();
        continue;
      }
      const hash = sha256(read);
      const existing = options.existing(hash);
      const same = firstRow.get(hash) ?? (existing && fromRecord(existing));
      if (same) checkSameImage(row, same, options.labelsName);
      // What was kept aside may be of use now: another policy, another package, or cropped by hand.
      const retry = existing !== null && (isAside(existing) || gainsFromAnew(existing, options));
      if (firstRow.has(hash) || (existing && !retry)) {
        alreadyThere += 1;
        advance();
      } else {
        underWay.push(prepare({ row, bytes: read, hash, existing }));
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
    return { images, unread, alreadyThere };
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

/** What was kept aside may be of use now. */
const isAside = ({ status, cropSha256 }: ImageRecord) => status === 'set-aside' && cropSha256 === null;

/** A crop of an earlier version serves one alignment only; the photograph itself gives what all of them need. */
const gainsFromAnew = ({ cropKind }: ImageRecord, { alreadyCropped }: PrepareOptions) =>
  cropKind === 'dlib-150' && !alreadyCropped;

/** What is recorded of a file that no pixel could be read of. */
const unknown = {
  ...({ status: 'set-aside', cropSha256: null, cropKind: null, width: 0, height: 0 } as const),
  ...{ faceBox: null, quality: null, cropHash: null },
};

/** What is stored of an image: the region around its face, or the picture as somebody cropped it. */
type Kept = { region: FaceRegion } | { picture: RgbImage };

const encode = (kept: Kept) => ('region' in kept ? encodeRegion(kept.region) : encodeCrop(kept.picture));

interface LookedAt {
  /** Null when it is kept aside. */
  kept: Kept | null;
  record: Omit<ReconsideredImage, 'cropSha256'>;
}

async function lookAt(
  image: DecodedImage,
  detector: FaceDetector | null,
  { limits }: PrepareOptions,
): Promise<LookedAt> {
  const size = pick(image, 'width', 'height');
  if (detector === null) {
    const picture = await fitToSquare(image, Math.min(largestRegion, Math.max(size.width, size.height)));
    const measured = measurePicture(picture, size, image.notes);
    return judge(size, { kept: { picture }, face: null, measured }, limits);
  }
  const { image: upright, faces, turned } = await findUprightFaces(image, detector);
  const [face] = faces;
  if (!face || faces.length > 1) {
    const aside = face
      ? { reason: `${faces.length} faces found`, asideKind: 'several-faces' as const }
      : { reason: 'no face found', asideKind: 'no-face' as const };
    return { kept: null, record: { ...unknown, ...size, ...aside } };
  }
  const region = await cutRegion(upright, face);
  const measured = measureFace({ photograph: upright, face, region, turned, notes: image.notes });
  return judge(size, { kept: { region }, face, measured }, limits);
}

function judge(
  size: { width: number; height: number },
  { kept, face, measured }: { kept: Kept; face: Face | null; measured: Measured },
  limits: ImageLimits | undefined,
): LookedAt {
  const { quality, cropHash } = measured;
  const reason = limits ? brokenLimits(quality, limits) : null;
  const record = {
    ...size,
    ...{ reason, quality, cropHash },
    status: reason === null ? ('ready' as const) : ('set-aside' as const),
    asideKind: reason === null ? null : ('quality' as const),
    faceBox: face?.box ?? null,
    cropKind: reason !== null ? null : face === null ? ('cropped' as const) : ('region' as const),
  };
  return { kept: reason === null ? kept : null, record };
}

/** Errors that speak of one file only, and the kind of reason that each is. */
const refusals: Partial<Record<ErrorCode, AsideKind>> = {
  IMAGES_MISSING: 'missing',
  IMAGE_UNREADABLE: 'unreadable',
  IMAGE_UNSUPPORTED: 'unsupported',
  IMAGE_TOO_LARGE: 'too-large',
};

/** What `work` gives, or why this file is set aside. */
async function unlessRefused<T>(
  row: LabelRow,
  work: () => Promise<T>,
): Promise<T | { reason: string; asideKind: AsideKind }> {
  try {
    return await work();
  } catch (error) {
    const asideKind = error instanceof AppError ? refusals[error.code] : undefined;
    if (asideKind === undefined) throw error;
    return { reason: reasonOf(error as AppError, basename(row.file)), asideKind };
  }
}

/** The error's sentence without the name, which stands beside it; with its advice where that is its own. */
function reasonOf({ code, message, action }: AppError, name: string): string {
  const words = message
    .replace(`The image "${name}" `, '')
    .replace(`The file "${name}" `, '')
    .replace(/\.$/, '');
  return action === errorTable[code].action ? words : `${words}. ${action}`;
}

function checkNotCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AppError('CANCELLED', 'The import was stopped; nothing was imported.');
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
