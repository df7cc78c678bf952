/** Import of a folder of images with its labels table: first its consents, then all of its images or none. */
import { basename } from 'node:path';
import { defaultPurpose } from '../config/consent-defaults.ts';
import type { ImageLimits } from '../config/site-policy.ts';
import { consentStatus } from '../consent/consent.ts';
import { toAppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { AsideKind, ImageQuality, ImageStatus, Split } from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { type ConsentsReport, recordTableConsents } from './consent-table.ts';
import { type DuplicateQuestion, findDuplicates } from './duplicates.ts';
import type { FaceDetector } from './faces.ts';
import { type PreparedImage, type PreparedImport, prepareImages } from './import-images.ts';
import { loadTable } from './import-table.ts';
import { assignSplits } from './split.ts';
import type { TableRequest } from './tables/request.ts';
import type { LabelRow } from './tables/rows.ts';

export interface SetAsideRow {
  sourceName: string;
  pseudonym: string;
  /** Plain words, for instance "no face found". */
  reason: string;
  /** Null for images set aside by an older Anneal. */
  kind: AsideKind | null;
}

/** What was measured of an image that could be read. */
export interface QualityRow {
  sourceName: string;
  pseudonym: string;
  status: ImageStatus;
  quality: ImageQuality;
}

/** What an import tells the person who started it. */
export interface ImportReport
  extends Pick<ConsentsReport, 'withdrawn' | 'reconsented' | 'stillWithdrawn' | 'contradictions'> {
  /** Images newly recorded and fit for training. */
  imported: number;
  /** Images newly recorded that are kept aside. */
  setAside: SetAsideRow[];
  /** Images of the CSV that the dataset held already. */
  alreadyThere: number;
  /** Of the imported ones: images whose subject has no active consent. */
  withoutConsent: number;
  /** Of the imported ones, by label. */
  byLabel: Record<string, { train: number; test: number }>;
  /** Of the images newly recorded in which exactly one face was found. */
  quality: QualityRow[];
  /** Pairs that a person should look at: nothing is merged or moved. */
  duplicates: DuplicateQuestion[];
}

export interface ImportProgress {
  done: number;
  total: number;
}

export interface ImportOptions {
  store: Store;
  blobs: BlobStore;
  imagesFolder: string;
  labelsFile: string;
  /** What a person said about the table. */
  table?: TableRequest | undefined;
  /** Name of the dataset that the images are added to. */
  dataset: string;
  /** The images are face crops: no face is looked for, they are only scaled. */
  alreadyCropped: boolean;
  /** What the quality of a face must keep, from the site's policy; without them it is only measured. */
  limits?: ImageLimits | undefined;
  /** Labels of the federation; without them any label will do. */
  allowedLabels?: readonly string[] | undefined;
  /** Who is named in consent events and in the audit trail. */
  recordedBy: string;
  onProgress?: ((progress: ImportProgress) => void) | undefined;
  /** Aborting ends the import with CANCELLED and leaves nothing behind. */
  signal?: AbortSignal | undefined;
  /** Starts a detector with the first photograph that needs one; it is closed in the end. */
  startDetector?: (() => Promise<FaceDetector>) | undefined;
  /** A running one, which stays open. */
  detector?: FaceDetector | undefined;
  /** Purpose whose consent the report counts; default `federated-training`. */
  purpose?: string | undefined;
  /** Decides which subjects are held out where the CSV says nothing; default 0. */
  seed?: number | undefined;
}

/**
 * Imports the images named in the table. First its consents, in a transaction of their own: neither a damaged image nor
 * anything else stands against a withdrawal. Files that are missing, or that cannot be read, and images without exactly
 * one face of the quality asked for are set aside, with the reason; what was read of them is recorded. Images that the
 * dataset holds already (same bytes) are left as they are, except those set aside, which are looked at anew.
 * @throws AppError CSV_MISSING, CSV_MALFORMED, LABEL_UNKNOWN, IMPORT_UNCONFIRMED, CONSENT_INVALID (but for clear
 *   withdrawals the store is unchanged after these), IMAGES_MISSING (the folder, or every file), DISK_FULL, CANCELLED
 *   (the consents are recorded, and no image)
 */
export async function importFolder(options: ImportOptions): Promise<ImportReport> {
  const { store, blobs, labelsFile, table: request = {} } = options;
  const loaded = await loadTable({
    ...{ store, request, file: labelsFile, kind: 'images' },
    allowedLabels: options.allowedLabels,
  });
  const consents = recordTableConsents(loaded, { store, request, recordedBy: options.recordedBy });
  const rows = loaded.understanding.images;
  const known = store.datasets.list().find(({ name }) => name === options.dataset);
  const written = new Set<string>();
  /** Crops of an earlier version whose photographs were imported anew. */
  const replaced: string[] = [];
  try {
    using _held = blobs.hold();
    const prepared = await prepareImages(rows, {
      ...pick(options, 'blobs', 'imagesFolder', 'alreadyCropped'),
      ...pick(options, 'limits', 'detector', 'startDetector', 'onProgress', 'signal'),
      labelsName: basename(labelsFile),
      existing: (sha256) => (known ? store.images.bySha(known.id, sha256) : null),
      written,
    });
    const report = store.transaction(() => record(options, rows, prepared, consents));
    replaced.push(...prepared.images.flatMap(({ restores }) => restores?.cropSha256 ?? []));
    return report;
  } catch (error) {
    await collectBlobs(store, blobs, written);
    throw toAppError(error);
  } finally {
    if (replaced.length > 0) await collectBlobs(store, blobs, replaced);
  }
}

function record(
  options: ImportOptions,
  rows: readonly LabelRow[],
  prepared: PreparedImport,
  consents: ConsentsReport,
): ImportReport {
  const { store, recordedBy } = options;
  const { images, alreadyThere } = prepared;
  const dataset = store.datasets.ensure(options.dataset);
  const subjectIds = new Map(
    [...new Set(rows.map(({ subject }) => subject))].map((pseudonym) => [
      pseudonym,
      store.subjects.upsert({ pseudonym }).id,
    ]),
  );
  const known = new Map<string, Split>(
    store.images.list({ datasetId: dataset.id }).map(({ pseudonym, split }) => [pseudonym, split]),
  );
  const splits = assignSplits(
    images.map(({ row, sha256 }) => ({ key: sha256, ...pick(row, 'subject', 'label', 'split') })),
    { seed: options.seed ?? 0, known },
  );
  const before = store.images.hashes(dataset.id);
  images.forEach((image, index) => {
    insertImage(store, dataset.id, subjectIds.get(image.row.subject)!, image, splits[index]!);
  });
  const report = {
    ...makeReport(options, prepared, splits),
    duplicates: findDuplicates(store.images.hashes(dataset.id), before),
    ...pick(consents, 'withdrawn', 'reconsented', 'stillWithdrawn', 'contradictions'),
  };
  store.audit.append({
    actor: recordedBy,
    action: 'dataset.import',
    details: {
      dataset: options.dataset,
      imported: report.imported,
      setAside: report.setAside.length,
      alreadyThere,
      byLabel: report.byLabel,
    },
  });
  return report;
}

function insertImage(
  store: Store,
  datasetId: number,
  subjectId: number,
  image: PreparedImage,
  split: Split,
): void {
  const { row, sha256, restores, ...found } = image;
  const { file, label } = row;
  if (restores) store.images.reconsider(restores.id, found);
  else
    store.images.insert({ datasetId, subjectId, sha256, sourceName: basename(file), label, split, ...found });
}

type ReportOfImages = Omit<ImportReport, keyof ConsentsReport | 'duplicates'>;

const named = (row: LabelRow) => ({ sourceName: basename(row.file), pseudonym: row.subject });

function makeReport(
  options: ImportOptions,
  { images, unread, alreadyThere }: PreparedImport,
  splits: readonly Split[],
): ReportOfImages {
  const { store } = options;
  const report: ReportOfImages = {
    imported: 0,
    setAside: [],
    quality: [],
    alreadyThere,
    withoutConsent: 0,
    byLabel: {},
  };
  const byLabel = new Map<string, { train: number; test: number }>();
  const events = Map.groupBy(store.consentEvents.all(), ({ subjectId }) => subjectId);
  for (const { row, reason, asideKind } of unread)
    report.setAside.push({ ...named(row), reason, kind: asideKind });
  images.forEach(({ row, reason, asideKind, status, quality }, index) => {
    if (quality) report.quality.push({ ...named(row), status, quality });
    if (reason !== null) {
      report.setAside.push({ ...named(row), reason, kind: asideKind });
      return;
    }
    report.imported += 1;
    const counts = byLabel.get(row.label) ?? { train: 0, test: 0 };
    counts[splits[index]!] += 1;
    byLabel.set(row.label, counts);
    const subject = store.subjects.byPseudonym(row.subject)!;
    const consent = consentStatus(
      events.get(subject.id) ?? [],
      options.purpose ?? defaultPurpose,
      store.clock.latest(),
    );
    if (consent !== 'active') report.withoutConsent += 1;
  });
  report.byLabel = Object.fromEntries([...byLabel].sort(([a], [b]) => (a < b ? -1 : 1)));
  return report;
}
