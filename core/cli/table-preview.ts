/** What the preview and the report of a table say on the terminal. */
import type { ConsentsReport, ImportPreview } from '../api/contract.ts';
import { plural } from '../shared/text.ts';
import { formatTable } from './format.ts';

const by = {
  name: 'its own name',
  person: 'named here',
  remembered: 'remembered',
  suggested: 'a guess: confirm it',
} as const;

export function describePreview(found: ImportPreview): string[] {
  const { format, consents, subjects } = found;
  const kind = format.kind === 'spreadsheet' ? `sheet "${format.sheet}"` : `text (${format.encoding})`;
  return [
    `${found.name}: ${kind}, ${plural(found.rowCount, 'row')}, ${found.goodRows} of them without a problem.`,
    ...found.notes,
    formatTable(
      ['field', 'column', 'because of'],
      found.columns.map(({ field, column, by: why }) => [field, column ?? '(none)', by[why]]),
    ),
    ...(found.unused.length > 0 ? [`Not used: ${found.unused.join(', ')}.`] : []),
    ...describeWords(found),
    ...describeRows(found),
    ...describeLabels(found),
    `Subjects: ${subjects.new} new, ${subjects.known} known.`,
    ...(subjects.unknown.length > 0
      ? [`No such subject here; none is made: ${subjects.unknown.join(', ')}.`]
      : []),
    `Consents: ${consents.granted} granted, ${consents.withdrawn} withdrawn, ${consents.reconsented} given again after a withdrawal, ${consents.stillWithdrawn} still withdrawn, ${consents.known} known already.`,
    ...found.contradictions.map(
      ({ subject, lines }) =>
        `Subject "${subject}" has withdrawn, though another line says granted: lines ${lines.join(', ')}.`,
    ),
    ...found.warnings.map(({ message }) => `Warning: ${message}`),
    ...found.questions.map(
      ({ first, second, why }) => `One subject or two (${why})? "${first}" and "${second}"`,
    ),
    ...describeProblems(found),
    ...(found.blocked !== null && found.clearWithdrawals > 0
      ? [
          `The table has ${plural(found.clearWithdrawals, 'new withdrawal')}: an import records them, even if it ends with the error below.`,
        ]
      : []),
    found.blocked === null
      ? 'Nothing stands against the import. Nothing was recorded.'
      : `Not imported like this: ${found.blocked.message}\n${found.blocked.action}`,
  ];
}

function describeLabels({ kind, byLabel }: ImportPreview): string[] {
  if (kind === 'consents') return [];
  const rows = Object.entries(byLabel).map(([label, { train, test, open }]) => [
    label,
    ...[train, test, open].map(String),
  ]);
  return [formatTable(['label', 'training', 'held out', 'to be split'], rows, [1, 2, 3])];
}

function describeWords({ words }: ImportPreview): string[] {
  if (words.length === 0) return [];
  const rows = words.map(({ field, word, meaning, needsConfirmation, rows }) => [
    field,
    word,
    meaning === null ? 'unknown' : `${meaning}${needsConfirmation ? ' (a guess: confirm it)' : ''}`,
    String(rows),
  ]);
  return [formatTable(['field', 'word', 'means', 'rows'], rows, [3])];
}

function describeRows({ rows }: ImportPreview): string[] {
  if (rows.length === 0) return [];
  const cells = rows
    .slice(0, 10)
    .map(({ line, file, subject, label, split, consent }) => [
      String(line),
      file ?? '',
      subject,
      label ?? '',
      split ?? '',
      consent === null
        ? ''
        : [consent.kind, consent.validFrom, consent.expiresAt && `to ${consent.expiresAt}`]
            .filter((part) => part !== null)
            .join(' '),
    ]);
  return [formatTable(['line', 'file', 'subject', 'label', 'split', 'consent'], cells, [0])];
}

const printedProblems = 50;

function describeProblems({ problems, problemCount }: ImportPreview): string[] {
  const lines = problems
    .slice(0, printedProblems)
    .map(({ line, column, message, blocks }) =>
      [
        `line ${line}`,
        column === null ? '' : `, column "${column}"`,
        `: ${message}`,
        blocks ? '' : ' (set aside)',
      ].join(''),
    );
  const more = problemCount - lines.length;
  return more > 0
    ? [...lines, `And ${plural(more, 'more problem')}: --errors FILE writes them as CSV.`]
    : lines;
}

/** Subjects by what the consents of a table did. */
export function describeConsents(report: Partial<ConsentsReport>): string[] {
  const list = (subjects: readonly string[] | undefined, sentence: string) =>
    subjects !== undefined && subjects.length > 0 ? [`${sentence}: ${subjects.join(', ')}.`] : [];
  return [
    ...list(report.granted, 'Granted'),
    ...list(report.withdrawn, 'Withdrawn now'),
    ...list(report.contradictions, 'Withdrawn, though another line says granted'),
    ...list(report.reconsented, 'Given again after a withdrawal'),
    ...list(
      report.stillWithdrawn,
      'Withdrawn, and still withdrawn, because the consent in the table is older or has no date or document',
    ),
    ...list(report.unknown, 'No such subject here; none was made'),
  ];
}
