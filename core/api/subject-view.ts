/** What the page of one subject shows, read from the store. */
import { runConfigSchema } from '../config/run-config.ts';
import { everyPurpose } from '../consent/consent.ts';
import { consentsByPurpose, termOf } from '../consent/purposes.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import { consentTimeline, type TimelineEntry } from '../consent/timeline.ts';
import type { CorrectionSetting } from '../data/corrections.ts';
import { cropPicture } from '../data/crop-picture.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ConsentEventRecord, ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { purposeInQuestion } from './site-view.ts';
import type { SubjectCorrection, SubjectDetail, SubjectImage, TimelineRow } from './subject-contract.ts';

/** @throws AppError SUBJECT_UNKNOWN */
export function subjectIdOf(store: ReadOnlyStore, pseudonym: string): number {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  return subject.id;
}

/** What corrections are held against. */
export function correctionSetting(store: ReadOnlyStore): CorrectionSetting {
  const run = store.runs.current();
  return {
    classes: runConfigSchema.safeParse(run?.config).data?.classes ?? null,
    purpose: purposeInQuestion(store),
  };
}

/** @throws AppError SUBJECT_UNKNOWN */
export function subjectDetail(store: ReadOnlyStore, pseudonym: string): SubjectDetail {
  const id = subjectIdOf(store, pseudonym);
  const events = store.consentEvents.ofSubject(id);
  const images = store.images.list({ subjectId: id });
  const at = store.clock.latest();
  const zone = siteTimeZone(store);
  const { classes } = correctionSetting(store);
  const labels = store.images.counts().map(({ label }) => label);
  return {
    pseudonym,
    createdAt: store.subjects.byId(id)!.createdAt,
    images: {
      train: images.filter(({ status, split }) => status === 'ready' && split === 'train').length,
      test: images.filter(({ status, split }) => status === 'ready' && split === 'test').length,
      setAside: images.filter(({ status }) => status === 'set-aside').length,
    },
    consents: consentsByPurpose(events, { at, zone }),
    timeline: timelineOf(store, id, events, { at, zone }),
    corrections: correctionsOf(store, id),
    labels: [...new Set([...(classes ?? []), ...labels])].sort(),
  };
}

function timelineOf(
  store: ReadOnlyStore,
  subjectId: number,
  events: readonly ConsentEventRecord[],
  { at, zone }: { at: string; zone: string },
): TimelineRow[] {
  const documents = Map.groupBy(store.consentDocuments.ofSubject(subjectId), (row) => row.consentEventId);
  return consentTimeline(events, at).map((entry) => ({
    ...pick(entry, 'change', 'at'),
    purpose: entry.purpose === everyPurpose ? null : entry.purpose,
    ...termOf(entry.event, zone),
    documents: documentsOf(entry, documents),
  }));
}

function documentsOf(
  { change, event }: TimelineEntry,
  documents: ReadonlyMap<number, ReturnType<ReadOnlyStore['consentDocuments']['ofSubject']>>,
): TimelineRow['documents'] {
  const own = change === 'ended' ? [] : (documents.get(event.id) ?? []);
  return own.map((row) => pick(row, 'id', 'sha256', 'mediaType', 'sizeBytes', 'addedAt', 'addedBy'));
}

/** One row per act, newest first. */
function correctionsOf(store: ReadOnlyStore, subjectId: number): SubjectCorrection[] {
  const acts = Map.groupBy(store.imageCorrections.ofSubject(subjectId), ({ act }) => act);
  const nameOf = (id: number) => store.subjects.byId(id)?.pseudonym ?? '';
  return [...acts.values()].reverse().map((rows) => {
    const [first] = rows as [(typeof rows)[number]];
    const changes = (before: 'label' | 'split', after: 'newLabel' | 'newSplit') =>
      rows.some((row) => row[before] !== row[after])
        ? { from: [...new Set(rows.map((row) => row[before]))], to: first[after] }
        : null;
    return {
      ...pick(first, 'correctedAt', 'correctedBy', 'reason', 'note'),
      images: rows.length,
      label: changes('label', 'newLabel'),
      split: changes('split', 'newSplit') as SubjectCorrection['split'],
      subject:
        first.subjectId === first.newSubjectId
          ? null
          : { from: [nameOf(first.subjectId)], to: nameOf(first.newSubjectId) },
    };
  });
}

/** One page of a subject's images with their crops as pictures, in order of import. */
export async function subjectImages(
  store: ReadOnlyStore,
  blobs: BlobStore,
  page: { pseudonym: string; offset: number; limit: number; pictures: boolean },
): Promise<{ total: number; rows: SubjectImage[] }> {
  const { pseudonym, offset, limit, pictures } = page;
  const images = store.images.list({ subjectId: subjectIdOf(store, pseudonym) });
  const rows = images.slice(offset, offset + limit).map(async (image) => ({
    ...pick(image, 'id', 'sourceName', 'label', 'split', 'status', 'reason', 'asideKind', 'width', 'height'),
    ...pick(image, 'quality', 'importedAt'),
    picture: pictures ? await pictureOf(image, blobs) : null,
  }));
  return { total: images.length, rows: await Promise.all(rows) };
}

/** Null when there is no crop, or it cannot be read: the page shows the rest nevertheless. */
async function pictureOf({ cropSha256 }: ImageRecord, blobs: BlobStore): Promise<string | null> {
  if (cropSha256 === null) return null;
  try {
    return await cropPicture(await blobs.read(cropSha256));
  } catch {
    return null;
  }
}
