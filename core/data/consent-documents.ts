/** Scans of signed consent forms: kept as blobs beside the consent that they prove. */
import { fileTypeFromBuffer } from 'file-type';
import { AppError, toAppError } from '../shared/errors.ts';
import { readAtMost } from '../store/atomic-file.ts';
import type { BlobStore } from '../store/blob-store.ts';
import {
  type ConsentDocumentRecord,
  type ConsentEventRecord,
  type ConsentMediaType,
  consentMediaTypeSchema,
} from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';

export const maxDocumentBytes = 10 * 1024 * 1024;

/** By which a whole file ends, give or take what scanners write behind it. */
const endings: Record<ConsentMediaType, Uint8Array> = {
  'application/pdf': Buffer.from('%%EOF'),
  'image/jpeg': Buffer.from([0xff, 0xd9]),
  'image/png': Buffer.from('IEND'),
};
const endingWithin = 2048;

const unusable = (message: string, cause?: unknown) => new AppError('DOCUMENT_UNUSABLE', message, { cause });

/**
 * Reads at most {@link maxDocumentBytes}. What a file is, its bytes say, not its name.
 * @throws AppError DOCUMENT_UNUSABLE
 */
export async function readDocument(
  path: string,
): Promise<{ bytes: Uint8Array; mediaType: ConsentMediaType }> {
  const bytes = await readScan(path);
  const mediaType = consentMediaTypeSchema.safeParse((await fileTypeFromBuffer(bytes))?.mime).data;
  if (mediaType === undefined) throw unusable('The scan is neither a PDF nor a JPEG or PNG image.');
  const ending = bytes.lastIndexOf(endings[mediaType]);
  if (ending === -1 || ending < bytes.length - endingWithin)
    throw unusable('The scan is damaged or cut short.');
  return { bytes, mediaType };
}

async function readScan(path: string): Promise<Buffer> {
  const read = await readAtMost(path, maxDocumentBytes).catch((cause: unknown) => {
    throw unusable('The scan does not exist, or Anneal may not read it.', cause);
  });
  if (read === 'not a file') throw unusable('The path of the scan is not a file.');
  if (read === 'too large') throw unusable(`The scan is larger than ${maxDocumentBytes / 2 ** 20} MB.`);
  return read;
}

interface Documents {
  store: Store;
  blobs: BlobStore;
  actor: string;
}

/**
 * Attaches a scan to a consent, a withdrawal or, when none is named, the subject's newest consent. The same file twice
 * changes nothing.
 * @throws AppError SUBJECT_UNKNOWN; NOT_FOUND when there is no such consent; DOCUMENT_UNUSABLE; DISK_FULL
 */
export async function addDocument(
  { store, blobs, actor }: Documents,
  { pseudonym, eventId, file }: { pseudonym: string; eventId?: number | undefined; file: string },
): Promise<ConsentDocumentRecord> {
  eventOf(store, pseudonym, eventId);
  const { bytes, mediaType } = await readDocument(file);
  using _held = blobs.hold();
  const sha256 = await blobs.put(bytes);
  try {
    return store.transaction(() => {
      // Asked again: the subject may have been erased meanwhile.
      const event = eventOf(store, pseudonym, eventId);
      const known = store.consentDocuments.ofSubject(event.subjectId);
      const same = known.find((row) => row.consentEventId === event.id && row.sha256 === sha256);
      if (same !== undefined) return same;
      const { id: consentEventId, subjectId } = event;
      const row = { subjectId, consentEventId, sha256, mediaType, sizeBytes: bytes.length, addedBy: actor };
      const document = store.consentDocuments.insert(row)!;
      auditDocument(store, actor, 'consent.document-added', pseudonym, document);
      return document;
    });
  } catch (thrown) {
    await collectBlobs(store, blobs, [sha256]);
    throw toAppError(thrown);
  }
}

function eventOf(store: Store, pseudonym: string, eventId: number | undefined): ConsentEventRecord {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  const events = store.consentEvents.ofSubject(subject.id);
  const event = events.findLast(({ id, kind }) =>
    eventId === undefined ? kind === 'grant' : id === eventId,
  );
  if (event !== undefined) return event;
  const message =
    eventId === undefined
      ? `"${pseudonym}" has no consent yet.`
      : `"${pseudonym}" has no consent with the number ${eventId}.`;
  throw new AppError('NOT_FOUND', message, { action: 'Record the consent first, then attach its scan.' });
}

/**
 * Takes away a scan, such as one of another patient, and its file.
 * @throws AppError NOT_FOUND
 */
export async function removeDocument({ store, blobs, actor }: Documents, id: number): Promise<void> {
  const document = store.transaction(() => {
    const row = documentOf(store, id);
    store.consentDocuments.remove(id);
    const { pseudonym } = store.subjects.byId(row.subjectId)!;
    auditDocument(store, actor, 'consent.document-removed', pseudonym, row);
    return row;
  });
  await collectBlobs(store, blobs, [document.sha256]);
}

/** @throws AppError NOT_FOUND */
export function documentOf(store: Pick<Store, 'consentDocuments'>, id: number): ConsentDocumentRecord {
  const document = store.consentDocuments.get(id);
  if (document === null) throw new AppError('NOT_FOUND', 'This scan is not here any more.');
  return document;
}

function auditDocument(
  store: Store,
  actor: string,
  action: string,
  pseudonym: string,
  { consentEventId, sha256, mediaType, sizeBytes }: ConsentDocumentRecord,
): void {
  const details = {
    subject: store.subjects.refOf(pseudonym),
    consent: consentEventId,
    document: sha256,
    mediaType,
    sizeBytes,
  };
  store.audit.append({ actor, action, details });
}
