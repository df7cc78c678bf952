/** The paper that a person gets after an erasure: what is gone, what stays, and where that can be checked. */
import type { TracedRun, TracedVersion, VersionUse } from '../consent/trace.ts';
import { plural } from '../shared/text.ts';
import type { Erasure } from './erase.ts';
import { createPdf } from './pdf.ts';

export interface CertificateFor {
  siteName: string;
  /** Only the paper names it: nothing here does any more. */
  pseudonym: string;
  writtenAt: string;
  /** Backups that Anneal made before the erasure, as far as it knows of them; newest first. */
  backups: readonly { madeAt: string }[];
}

/** What the rows of a table were, for people. */
const tableWords: Record<string, string> = {
  subjects: 'the entry of the pseudonym',
  images: 'entries of images (file name, label, place of the face, quality, hashes)',
  consent_events: 'consents and withdrawals',
  consent_sources: 'documents that consents were read from',
  consent_documents: 'scans of consent forms',
  cohort_members: 'entries in lists of images that rounds were trained on',
  evaluation_members: 'entries in lists of images that models were evaluated on',
  image_corrections: 'corrections of labels and subjects',
  kept_crops: 'the choice to keep crops',
  adapters: "this site's own updates of rounds with the person",
  site_memory: 'parameters that this site kept to itself of runs with the person',
};

const useWords: Record<VersionUse, string> = {
  trained: 'trained on images of the person',
  descends: 'builds upon a version that was trained on them',
  evaluated: 'evaluated on images of the person; nothing of them is in it',
  'maybe-evaluated': 'may have been evaluated on images of the person; nothing of them is in it',
  'after-evaluated':
    'builds upon a version that was evaluated on images of the person; nothing of them is in it',
};

export const describeVersion = ({ round, sha256, uses }: TracedVersion): string => {
  const name = round < 0 ? 'Start of the run' : `After round ${round + 1}`;
  const state = sha256 === null ? 'not known at this site' : sha256;
  return `${name} (${state}): ${uses.map((use) => useWords[use]).join('; ')}.`;
};

export const describeRun = ({ runId, rounds }: TracedRun): string =>
  rounds.length === 0
    ? `Run ${runId}: no round was trained on images of the person.`
    : `Run ${runId}: images of the person trained in ${rounds.length === 1 ? 'round' : 'rounds'} ${rounds.map((round) => round + 1).join(', ')}.`;

export async function erasureCertificate(
  erasure: Erasure,
  { siteName, pseudonym, writtenAt, backups }: CertificateFor,
): Promise<Uint8Array> {
  const pdf = await createPdf('Certificate of erasure', { writtenAt });
  pdf.facts([
    ['Site', siteName],
    ['Pseudonym', pseudonym],
    ['Keyed hash of the pseudonym', erasure.subject],
    ['Asked for', `${erasure.askedAt}, by ${erasure.actor}`],
    ['Finished', erasure.doneAt ?? 'not yet: files are still being deleted'],
    ['Entry in the audit trail', `number ${erasure.tombstone.seq}, hash ${erasure.tombstone.hash}`],
  ]);
  pdf.heading('What was erased');
  pdf.list([
    ...Object.entries(erasure.rows).map(([table, count]) => `${count} - ${tableWords[table] ?? table}`),
    `${plural(erasure.files, 'file')} of crops, scans, updates and parameters`,
    `the name in ${plural(erasure.redacted, 'entry', 'entries')} of the audit trail`,
    'work files of a round in progress, where it used images of the person',
    'what named the person in log files, and the free space of the database',
  ]);
  pdf.heading('What stays, and why');
  pdf.list([
    'The keyed hash above, this entry of the audit trail, and entries that name the hash: that an unnamed person consented, withdrew and was erased, and when. They prove that the rest of the trail is whole.',
    'Hashes of lists of images, and counts over many people, as they stood in rounds: they name nobody.',
    "The photographs in the hospital's own systems, which Anneal does not reach; copies of the data folder that others made, such as backups of the hospital.",
    ...(backups.length === 0
      ? []
      : [
          `${plural(backups.length, 'backup')} that Anneal made before, the newest of ${backups[0]!.madeAt}: encrypted, and the person is in ${backups.length === 1 ? 'it' : 'them'} until ${backups.length === 1 ? 'it is' : 'they are'} deleted. Who restores one must erase the person again.`,
        ]),
  ]);
  pdf.heading('Models');
  if (erasure.runs.length === 0) pdf.paragraph('No model was trained or evaluated on images of the person.');
  else {
    pdf.paragraph(
      'These versions of shared models have to do with images of the person. Erasing does not undo what they learnt, and copies of them are at the coordinator and at other sites.',
    );
    for (const run of erasure.runs) {
      pdf.paragraph(describeRun(run));
      pdf.list(run.versions.map(describeVersion));
    }
  }
  return pdf.finish();
}
