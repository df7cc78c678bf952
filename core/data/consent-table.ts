/** Consents of a table: recorded before and apart from images. Withdrawals never wait for anything. */
import { applyConsentRecord } from '../consent/apply-record.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { Store } from '../store/store.ts';
import {
  type ImportTable,
  type LoadTableOptions,
  loadTable,
  readmitErased,
  rememberAnswered,
} from './import-table.ts';
import type { TableRequest } from './tables/request.ts';
import type { ConsentRow } from './tables/rows.ts';

/** What the consents of a table did, by pseudonym, each once. */
export interface ConsentsReport {
  /** Grants that are recorded now. */
  granted: string[];
  withdrawn: string[];
  /** Subjects that had withdrawn, and of whom the table names a new consent: its document, and a later date. */
  reconsented: string[];
  /** Subjects that have withdrawn and stay so, although the table says that they consent: its consent is older, or has no date. */
  stillWithdrawn: string[];
  /** Not at this site; none is made. */
  unknown: string[];
  /** Subjects of which one row says withdrawn and another granted: they have withdrawn. */
  contradictions: string[];
}

export type ConsentTableOptions = Omit<LoadTableOptions, 'kind' | 'store' | 'allowedLabels'> & {
  store: Store;
  /** Who is named in consent events and in the audit trail. */
  recordedBy: string;
};

/**
 * Records a list of consents. All grants or, when anything is wrong or not confirmed, none; withdrawals that are clear
 * are recorded in any case.
 * @throws AppError CSV_MISSING, CSV_MALFORMED, IMPORT_UNCONFIRMED, CONSENT_INVALID, DISK_FULL; the message says how many
 *   withdrawals were recorded all the same
 */
export async function importConsentTable(options: ConsentTableOptions): Promise<ConsentsReport> {
  return recordTableConsents(await loadTable({ ...options, kind: 'consents' }), options);
}

/** The consents of a table of either kind, in a transaction of its own. Subjects are made only for tables of images. */
export function recordTableConsents(
  loaded: ImportTable,
  { store, recordedBy, request = {} }: Pick<ConsentTableOptions, 'store' | 'recordedBy' | 'request'>,
): ConsentsReport {
  const { blocked, understanding, kind } = loaded;
  try {
    if (blocked !== null) throw blocked;
    return store.transaction(() => {
      rememberAnswered(store, loaded, request satisfies TableRequest);
      if (request.again === true) readmitErased(store, loaded, recordedBy);
      if (kind === 'images') {
        for (const { subject } of understanding.consents) store.subjects.upsert({ pseudonym: subject });
      }
      return apply(store, loaded, understanding.consents, recordedBy);
    });
  } catch (error) {
    throw withdrawAllTheSame(store, loaded, recordedBy, toAppError(error));
  }
}

function apply(
  store: Store,
  loaded: ImportTable,
  rows: readonly ConsentRow[],
  recordedBy: string,
): ConsentsReport {
  const by = {
    granted: new Set<string>(),
    withdrawn: new Set<string>(),
    reconsented: new Set<string>(),
    stillWithdrawn: new Set<string>(),
    unknown: new Set<string>(),
  };
  const place = {
    recorded: by.granted,
    withdrawn: by.withdrawn,
    reconsented: by.reconsented,
    'still-withdrawn': by.stillWithdrawn,
    'unknown-subject': by.unknown,
  } as const;
  for (const { subject, consent } of rows) {
    const { outcome } = applyConsentRecord(store, { pseudonym: subject, ...consent }, { recordedBy });
    if (outcome !== 'known' && outcome !== 'nothing') place[outcome].add(subject);
  }
  const report: ConsentsReport = {
    granted: [...by.granted],
    withdrawn: [...by.withdrawn],
    reconsented: [...by.reconsented],
    stillWithdrawn: [...by.stillWithdrawn],
    unknown: [...by.unknown],
    contradictions: loaded.understanding.contradictions.map(({ subject }) => subject),
  };
  if (rows.length > 0) {
    const counts = Object.entries(report).map(([what, subjects]) => [what, subjects.length]);
    store.audit.append({ actor: recordedBy, action: 'consents.import', details: Object.fromEntries(counts) });
  }
  return report;
}

/** Nothing else of the table counts, so its error says what does. */
function withdrawAllTheSame(
  store: Store,
  loaded: ImportTable,
  recordedBy: string,
  error: AppError,
): AppError {
  const { understanding, withdrawalsAreClear } = loaded;
  if (!withdrawalsAreClear || understanding.withdrawals.length === 0) return error;
  const rows = understanding.withdrawals.map(
    ({ line, subject, purpose }): ConsentRow => ({
      line,
      subject,
      consent: { kind: 'withdrawn', purpose, documentVersion: null, validFrom: null, expiresAt: null },
    }),
  );
  const { withdrawn } = store.withReserve(() =>
    store.transaction(() => apply(store, loaded, rows, recordedBy)),
  );
  if (withdrawn.length === 0) return error;
  const recorded = `${plural(withdrawn.length, 'withdrawal')} of the table ${withdrawn.length === 1 ? 'was' : 'were'} recorded all the same.`;
  return new AppError(error.code, `${error.message} ${recorded}`, { action: error.action, cause: error });
}
