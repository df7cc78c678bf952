/** A table on its way into the store: what it says here, at this site, and what a person still has to say. */
import { consentStatus } from '../consent/consent.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import { quote } from '../shared/visible-text.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { askAboutLookAlikes, type LookAlikeQuestion, rememberAnswers } from './look-alike-answers.ts';
import { rememberedTable, rememberTable } from './table-memory.ts';
import { looksLikeIdentity } from './tables/look-alikes.ts';
import { readTable } from './tables/read-table.ts';
import type { TableRequest } from './tables/request.ts';
import type { Table } from './tables/table.ts';
import { toRemember, type Understanding, understandTable } from './tables/understand.ts';
import type { TableKind, UnderstandOptions } from './tables/understand-options.ts';

/** What is not wrong, but most likely not meant. */
export interface TableWarning {
  kind: 'names' | 'dates' | 'consent ends';
  message: string;
  /** The first {@link listedLines}. */
  lines: number[];
  count: number;
}
const listedLines = 20;

export interface ImportTable {
  table: Table;
  kind: TableKind;
  understanding: Understanding;
  questions: LookAlikeQuestion[];
  warnings: TableWarning[];
  /** Why it is not imported as it is; null when it can be. */
  blocked: AppError | null;
  /** Withdrawals count even when the rest is blocked; not where a person has not said yet which columns are meant. */
  withdrawalsAreClear: boolean;
}

export interface LoadTableOptions {
  store: ReadOnlyStore | Store;
  file: string;
  kind: TableKind;
  request?: TableRequest | undefined;
  allowedLabels?: readonly string[] | undefined;
}

/**
 * Reads and understands a table; writes nothing.
 * @throws AppError CSV_MISSING; CSV_MALFORMED when it cannot be read at all; CONFIG_INVALID when an answer names nobody
 */
export async function loadTable(options: LoadTableOptions): Promise<ImportTable> {
  const { store, file, kind, request = {} } = options;
  const table = await readTable(file, request);
  const understandOptions: UnderstandOptions = {
    kind,
    request,
    remembered: rememberedTable(store, table.header),
    timeZone: siteTimeZone(store),
    allowedLabels: options.allowedLabels,
    known: (pseudonym) => store.subjects.byPseudonym(pseudonym)?.pseudonym ?? null,
  };
  const written = understandTable(table, understandOptions);
  const { questions: asked, meant } = askAboutLookAlikes(store, written.subjects, request);
  // A list of consents makes no subjects: only one that may be another's spelling is worth a question.
  const questions =
    kind === 'images' ? asked : asked.filter(({ firstKnown, secondKnown }) => firstKnown !== secondKnown);
  const understanding = meant.size === 0 ? written : understandTable(table, { ...understandOptions, meant });
  const warnings = [...identityWarnings(written, table), ...endedWarnings(store, understanding)];
  const { columns } = understanding.unconfirmed;
  return {
    table,
    kind,
    understanding,
    questions,
    warnings,
    blocked: whyBlocked({ table, kind, understanding, questions, warnings, request }),
    withdrawalsAreClear: !columns.some(({ field }) => field === 'subject' || field.startsWith('consent')),
  };
}

/** Call in the transaction that records the table. */
export function rememberAnswered(
  store: Store,
  { table, understanding }: ImportTable,
  request: TableRequest,
): void {
  rememberTable(store, table.header, toRemember(understanding));
  rememberAnswers(store, request);
}

function whyBlocked({
  table,
  kind,
  understanding,
  questions,
  warnings,
  request,
}: Omit<ImportTable, 'blocked' | 'withdrawalsAreClear'> & { request: TableRequest }): AppError | null {
  const { problems, unconfirmed, missing } = understanding;
  if (
    kind === 'images' &&
    missing.includes('file') &&
    missing.includes('label') &&
    !missing.includes('subject')
  ) {
    return new AppError(
      'CSV_MALFORMED',
      `${table.name}, line ${table.headerLine}: there is no column "file" and no "label", so this is no list of images.`,
      {
        action:
          'If it is a list of consents, import it with "anneal consent import". Else name the columns (--map file=…,label=…).',
      },
    );
  }
  const error = problems.toError(table.name);
  if (error !== null) return error;
  const unsaid = (message: string, action: string) =>
    new AppError('IMPORT_UNCONFIRMED', `${table.name}: ${message}`, { action });
  if (unconfirmed.columns.length > 0) {
    const pairs = unconfirmed.columns.map(({ field, column }) => `${quote(column!)} for ${field}`);
    const map = unconfirmed.columns.map(({ field, column }) => `${field}=${column}`).join(',');
    return unsaid(
      `the columns were guessed by their names: ${pairs.join(', ')}.`,
      `Look at the preview. If they are right, import with --map "${map}" or --accept-mapping (or choose them on the screen); Anneal remembers it.`,
    );
  }
  if (unconfirmed.words.length > 0) {
    const pairs = unconfirmed.words.map(({ word, meaning }) => `${quote(word)} for ${meaning}`);
    const values = unconfirmed.words
      .map(({ field, word, meaning }) => `${field}:${word}=${meaning}`)
      .join(',');
    return unsaid(
      `the meaning of words was guessed: ${pairs.join(', ')}.`,
      `Look at the preview. If it is right, import with --values "${values}" or --accept-mapping (or choose it on the screen); Anneal remembers it.`,
    );
  }
  const [question] = questions;
  if (question !== undefined) {
    const { first, second } = question;
    const more = questions.length > 1 ? `, and ${plural(questions.length - 1, 'more pair')}` : '';
    return unsaid(
      `are ${quote(first)} and ${quote(second)} one subject or two${more}?`,
      `Say so for each pair of the preview: --same "${second}=${first}" or --distinct "${first},${second}" (or choose on the screen); Anneal remembers it.`,
    );
  }
  if (warnings.length > 0 && request.acceptWarnings !== true) {
    return unsaid(
      warnings.map(({ message }) => message).join(' '),
      'Look at the preview. If it is as it should be, import with --accept-warnings (or confirm it on the screen).',
    );
  }
  return null;
}

/** A pseudonym is no name and no birth date. */
function identityWarnings({ subjects, mapping }: Understanding, table: Table): TableWarning[] {
  const column = mapping.choices.find(({ field }) => field === 'subject')?.column ?? 'subject';
  const suspects = subjects.map((pseudonym) => ({ pseudonym, as: looksLikeIdentity(pseudonym) }));
  const at = table.header.indexOf(column);
  return (['name', 'date'] as const).flatMap((as) => {
    const meant = new Set(suspects.filter((one) => one.as === as).map(({ pseudonym }) => pseudonym));
    if (meant.size === 0) return [];
    const lines = table.rows
      .filter(({ cells }) => meant.has((cells[at] ?? '').trim().normalize('NFC')))
      .map(({ line }) => line);
    const what = as === 'name' ? 'the names of people' : 'dates of birth, or other dates';
    return [
      {
        kind: as === 'name' ? ('names' as const) : ('dates' as const),
        message: `The column ${quote(column)} seems to hold ${what}: ${plural(meant.size, 'pseudonym')}, first in line ${lines[0] ?? '?'}.`,
        lines: lines.slice(0, listedLines),
        count: meant.size,
      },
    ];
  });
}

/** The table says "no consent", which withdraws nothing, of subjects whose consent is active here. */
function endedWarnings(store: ReadOnlyStore | Store, { consents }: Understanding): TableWarning[] {
  const lines = consents
    .filter(({ subject, consent }) => {
      if (consent.kind !== 'none') return false;
      const stored = store.subjects.byPseudonym(subject);
      if (stored === null) return false;
      const events = store.consentEvents.ofSubject(stored.id);
      return consentStatus(events, consent.purpose, store.clock.latest()) === 'active';
    })
    .map(({ line }) => line)
    .sort((a, b) => a - b);
  if (lines.length === 0) return [];
  return [
    {
      kind: 'consent ends',
      message: `The table says that ${plural(lines.length, 'subject')} did not consent, first in line ${lines[0]}, but their consent is active here and stays so: write "withdrawn" to end it.`,
      lines: lines.slice(0, listedLines),
      count: lines.length,
    },
  ];
}
