/** A run's request as a letter, for the terminal. */
import type { ApprovalCard, DecisionRow } from '../api/contract.ts';
import { describeLeak } from '../config/leak-report.ts';
import { plural } from '../shared/text.ts';
import { formatBytes, formatTable } from './format.ts';

const list = (entries: readonly string[]) => entries.map((entry) => `  - ${entry}.`).join('\n');
const section = (title: string, text: string) => `${title}\n${text}`;
const shortHash = (sha256: string) => sha256.slice(0, 12);

export function formatLetter(card: ApprovalCard): string {
  const { images, subjects, base } = card;
  const origin = [
    base.origin,
    base.isBuiltIn ? 'built in' : `imported here ${base.importedAt?.slice(0, 10) ?? ''}`,
  ];
  const parts = [
    `${card.title || `A run of ${card.rounds} rounds`}\nasked by ${card.askedBy}, purpose "${card.purpose}"`,
    ...(card.note === '' ? [] : [card.note]),
    ...(card.beyondEarlier.length === 0
      ? []
      : [
          section(
            'It asks for more than was approved here last:',
            formatTable(
              ['what', 'before', 'now'],
              card.beyondEarlier.map(({ label, before, now }) => [label, before, now]),
            ),
          ),
        ]),
    section(
      `Your data: ${images.used} of your ${plural(images.all, 'training image')}, ${subjects.used} of ${plural(subjects.all, 'subject')}.`,
      formatTable(
        ['class', 'images', 'subjects', 'held out', 'trains here'],
        card.classes.map((row) => [
          row.label,
          ...[row.images, row.subjects, row.heldOut].map(String),
          row.trains ? 'yes' : 'no',
        ]),
        [1, 2, 3],
      ),
    ),
    ...(card.cannotTrain === null ? [] : [`${card.cannotTrain.message} ${card.cannotTrain.action}`]),
    ...card.consentNotes,
    `Base model: ${base.name} (${origin.filter((word) => word !== '').join(', ')}), ${base.weights.toLocaleString('en')} weights, SHA-256 ${base.sha256}`,
    ...(base.leak === null ? [] : [describeLeak(base.leak)]),
    section('What leaves this site', list(card.leaves)),
    formatTable(
      ['rounds', 'rank', 'tensors', 'numbers', 'size'],
      card.leavingRounds.map(({ from, to, rank, tensors, values, bytes }) => [
        from === to ? String(from + 1) : `${from + 1}–${to + 1}`,
        ...[rank, tensors, values].map(String),
        formatBytes(bytes),
      ]),
      [1, 2, 3, 4],
    ),
    section('What protects it', list(card.protection)),
    section('What stays here', list(card.stays)),
    card.evaluations,
    section('Settings', card.settings.map(({ label, value }) => `  ${label}: ${value}`).join('\n')),
    `An approval holds for this contract: ${card.contractSha256}`,
  ];
  return parts.join('\n\n');
}

export const formatDecisions = (decisions: readonly DecisionRow[]): string =>
  formatTable(
    ['decision', 'what', 'study', 'contract', 'by', 'when', 'note'],
    decisions.map((row) => [
      String(row.id),
      row.kind,
      row.title || row.purpose,
      shortHash(row.contractSha256),
      row.actor,
      row.createdAt.slice(0, 16),
      noteOf(row),
    ]),
  );

function noteOf({ reason, standing, endedAt, coveredBy }: DecisionRow): string {
  if (reason !== null) return reason;
  if (coveredBy !== null) return `by decision ${coveredBy}`;
  if (standing === null) return '';
  const until = standing.until === null ? '' : `, until ${standing.until.slice(0, 10)}`;
  return endedAt === null
    ? `${standing.runsUsed} of ${plural(standing.runs, 'run')} used${until}`
    : `ended ${endedAt.slice(0, 10)}`;
}
