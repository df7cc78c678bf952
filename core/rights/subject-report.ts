/** What is stored about a person, what it was used for, and who got what of it (GDPR article 15). */
import { consentStatus, everyPurpose } from '../consent/consent.ts';
import { purposesOf } from '../consent/purposes.ts';
import { type TracedRun, traceSubject } from '../consent/trace.ts';
import { decodeCrop } from '../data/crop-file.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { policyOrFault } from '../site/policy.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ConsentEventRecord, CropKind, ImageRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { describeRun, describeVersion } from './certificate.ts';
import { dueCrops } from './crop-retention.ts';
import { createPdf } from './pdf.ts';

export interface SubjectReport {
  format: 'anneal-subject-report';
  formatVersion: 1;
  writtenAt: string;
  site: string;
  federation: string | null;
  pseudonym: string;
  /** What the audit trail calls the person. */
  subject: string;
  createdAt: string;
  images: Omit<ImageRecord, 'id' | 'datasetId' | 'subjectId' | 'pseudonym'>[];
  /**
   * By the hash of the crop: the centres of the eyes, the tip of the nose, the corners of the mouth, as x and y in pixels of the crop.
   * Of crops that can be read.
   */
  landmarks: Record<string, [x: number, y: number][]>;
  /** Now, by purpose. */
  consent: Record<string, string>;
  /** In the order of recording. */
  consents: Omit<ConsentEventRecord, 'id' | 'subjectId'>[];
  /** The person chose that crops stay when no consent holds any more. */
  keepsCrops: boolean;
  /** When the first crops go as things stand, ISO 8601 UTC; null: not by themselves, or `cropsGoUnknown`. */
  cropsGoAt: string | null;
  /** Why nobody can say when crops go: the site's policy is not what a person here set. */
  cropsGoUnknown: string | null;
  runs: TracedRun[];
  /** Updates that were made of images of the person and announced to the coordinator, also those that were taken back. */
  sent: { runId: string; round: number; update: string; sizeBytes: number; became: string; at: string }[];
  /** Evaluations in which held-out images of the person were counted, and over how many images. */
  counted: { runId: string; state: string; images: number; at: string }[];
  /** Entries of the audit trail about the person. */
  trail: { seq: number; at: string; actor: string; action: string }[];
}

/** @throws AppError SUBJECT_UNKNOWN */
export function subjectReport(
  store: ReadOnlyStore,
  pseudonym: string,
  at: { site: string; federation: string | null },
): SubjectReport {
  const subject = store.subjects.byPseudonym(pseudonym);
  if (subject === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
  const events = store.consentEvents.ofSubject(subject.id);
  const ref = store.subjects.refOf(subject.pseudonym);
  return {
    ...{ format: 'anneal-subject-report', formatVersion: 1, writtenAt: store.now() },
    ...{ ...at, pseudonym: subject.pseudonym, subject: ref, createdAt: subject.createdAt },
    images: store.images
      .list({ subjectId: subject.id })
      .map(({ id: _id, datasetId: _dataset, subjectId: _subject, pseudonym: _name, ...image }) => image),
    landmarks: {},
    consent: Object.fromEntries(
      purposesOf(events).map((purpose) => [purpose, consentStatus(events, purpose, store.clock.latest())]),
    ),
    consents: events.map(({ id: _id, subjectId: _subject, ...said }) => said),
    keepsCrops: store.keptCrops.ofSubject(subject.id) !== null,
    ...cropsGo(store, subject.id),
    runs: traceSubject(store, subject.pseudonym).runs,
    sent: sentUpdates(store, subject.id),
    counted: store.evaluationCohorts
      .bySubject(subject.id)
      .map(({ runId, stateSha256, size, evaluatedAt }) => ({
        ...{ runId, state: stateSha256, images: size, at: evaluatedAt },
      })),
    trail: store.audit
      .about(ref)
      .map(({ seq, at: time, actor, action }) => ({ seq, at: time, actor, action })),
  };
}

/** The report with the landmarks that are kept in the files of crops. */
export async function withLandmarks(
  report: SubjectReport,
  blobs: Pick<BlobStore, 'read'>,
): Promise<SubjectReport> {
  const landmarks: SubjectReport['landmarks'] = {};
  for (const { cropSha256, cropKind } of report.images) {
    if (cropSha256 === null || cropKind !== 'region') continue;
    // The person is owed the rest of the report whatever became of one file.
    const bytes = await blobs.read(cropSha256).catch(() => null);
    const face = bytes === null ? null : decodeCrop(bytes, 'face crop').face;
    if (face !== null) landmarks[cropSha256] = face.landmarks.map(({ x, y }) => [x, y]);
  }
  return { ...report, landmarks };
}

/** The rest of the report does not depend on the policy, and is owed whatever became of that. */
function cropsGo(
  store: ReadOnlyStore,
  subjectId: number,
): Pick<SubjectReport, 'cropsGoAt' | 'cropsGoUnknown'> {
  const policy = policyOrFault(store);
  if (policy instanceof AppError) return { cropsGoAt: null, cropsGoUnknown: policy.message };
  return { cropsGoAt: dueCrops(store, policy, subjectId)[0]?.at ?? null, cropsGoUnknown: null };
}

const outcomes = {
  working: 'taken back before it was received',
  announced: 'announced, not yet received',
  received: 'received and merged',
  rejected: 'not merged',
  absent: 'not received',
} as const;

function sentUpdates(store: ReadOnlyStore, subjectId: number): SubjectReport['sent'] {
  return store.withdrawalNotices
    .contributionsOf(subjectId)
    .map(({ runId, round, updateSha256, sizeBytes, status, updatedAt, announcedAt }) => ({
      ...{ runId, round, update: updateSha256, sizeBytes },
      ...{ became: outcomes[status ?? 'working'], at: updatedAt ?? announcedAt },
    }));
}

export async function subjectReportPdf(report: SubjectReport): Promise<Uint8Array> {
  const pdf = await createPdf('What Anneal stores about a person', report);
  pdf.facts([
    ['Site', report.site],
    ['Federation', report.federation ?? 'none'],
    ['Pseudonym', report.pseudonym],
    ['Keyed hash of the pseudonym', report.subject],
    ['Written', report.writtenAt],
    ['Entered', report.createdAt],
  ]);
  pdf.heading('Images');
  pdf.list(report.images.map(describeImage));
  pdf.paragraph(retentionOf(report));
  pdf.heading('Consents');
  pdf.facts(Object.entries(report.consent));
  pdf.list(report.consents.map(describeConsent));
  pdf.heading('What the images were used for');
  if (report.runs.length === 0) pdf.paragraph('No model was trained or evaluated on images of the person.');
  for (const run of report.runs) {
    pdf.paragraph(describeRun(run));
    pdf.list(run.versions.map(describeVersion));
  }
  pdf.heading('Who got what');
  pdf.paragraph(
    'Photographs, crops, names and pseudonyms have not left this site through Anneal. The coordinator of the federation ' +
      'got what is listed here, and the sites of the federation get the shared models.',
  );
  pdf.list([
    ...report.sent.map(
      ({ runId, round, sizeBytes, became }) =>
        `Run ${runId}, round ${round + 1}: an update of a model, ${sizeBytes} bytes of numbers, made of the images of several people together; ${became}.`,
    ),
    ...report.counted.map(
      ({ runId, state, images }) =>
        `Run ${runId}: counts of right and wrong answers of model ${state.slice(0, 12)} over ${plural(images, 'image')} of several people, as far as they may leave.`,
    ),
  ]);
  pdf.heading('Entries of the audit trail');
  pdf.list(report.trail.map(({ seq, at, actor, action }) => `${seq}, ${at}: ${action}, by ${actor}`));
  return pdf.finish();
}

const describeImage = (image: SubjectReport['images'][number]): string =>
  [
    `${image.sourceName}: label ${image.label}, ${image.split === 'train' ? 'for training' : 'held out'}`,
    `${image.width} x ${image.height} pixels, imported ${image.importedAt}`,
    describeCrop(image),
    ...(image.reason === null ? [] : [`set aside: ${image.reason}`]),
  ].join('; ');

const cropWords: Readonly<Record<CropKind, string>> = {
  region: 'the part around the face, with the places of eyes, nose and mouth in it',
  'dlib-150': 'the face',
  cropped: 'the picture as it was cropped before',
};

const describeCrop = ({ cropSha256, cropKind }: SubjectReport['images'][number]): string =>
  cropSha256 === null
    ? 'no crop is stored'
    : `crop ${cropSha256.slice(0, 12)} (${cropWords[cropKind ?? 'dlib-150']})`;

const describeConsent = (event: SubjectReport['consents'][number]): string =>
  [
    `${event.kind === 'grant' ? 'Consent' : 'Withdrawal'} recorded ${event.recordedAt} by ${event.recordedBy}`,
    `purpose ${event.purpose === everyPurpose ? 'all' : event.purpose}`,
    ...(event.documentVersion === null ? [] : [`document ${event.documentVersion}`]),
    `from ${event.validFrom}${event.expiresAt === null ? '' : ` until ${event.expiresAt}`}`,
    ...(event.givenBy === null ? [] : [`signed by ${event.givenBy}`]),
  ].join('; ');

function retentionOf({ keepsCrops, cropsGoAt, cropsGoUnknown }: SubjectReport): string {
  if (keepsCrops) return 'The person chose that crops stay when no consent holds any more.';
  if (cropsGoUnknown !== null) return `When crops are deleted cannot be said: ${cropsGoUnknown}`;
  return cropsGoAt === null
    ? 'Crops stay as long as a consent holds.'
    : `As things stand, crops are deleted at ${cropsGoAt}.`;
}
