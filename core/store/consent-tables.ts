/** What people consented to: events that nobody can change, each bound to the audit trail. */
import { z } from 'zod';
import { createAudit } from './audit.ts';
import { createChangeListeners } from './change-listeners.ts';
import { createClock } from './clock.ts';
import {
  type BoundEvent,
  type ConsentBreak,
  consentActions,
  consentHash,
  createConsentCheck,
  type ErasedEvent,
  eventsWithHashes,
  listAsFound,
  type RefOf,
} from './consent-chain.ts';
import { createSettings } from './federation-tables.ts';
import { createSubjects } from './image-tables.ts';
import { type ConsentEventRecord, consentEventRecord } from './records.ts';
import { type Defaulted, insertSql, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

export type NewConsentEvent = Defaulted<
  Omit<ConsentEventRecord, 'id'>,
  'recordedAt' | 'givenBy' | 'verifiedOn' | 'reference' | 'afterWithdrawal'
>;

const idRow = z.object({ id: z.int().nullable() });
const pseudonymRow = z.object({ pseudonym: z.string() });
/** Numbers are never given twice, not even that of an erased event: the trail still names it. */
const lastId = `SELECT max(id) AS id FROM (
  SELECT max(id) AS id FROM consent_events
  UNION ALL SELECT (SELECT json_extract(details, '$.event') FROM audit WHERE action = 'consent.granted' ORDER BY seq DESC LIMIT 1)
  UNION ALL SELECT (SELECT json_extract(details, '$.event') FROM audit WHERE action = 'consent.withdrawn' ORDER BY seq DESC LIMIT 1)
  UNION ALL SELECT (SELECT json_extract(details, '$.lastEvent') FROM audit WHERE action = 'consents.bound' LIMIT 1))`;
/** Append-only; triggers of the database refuse changes. Lists are in order of recording. */
export function createConsentEvents(
  db: Sqlite,
  now: () => string,
  {
    audit,
    refOf,
    findBreak,
    onRecord,
  }: {
    audit: Pick<ReturnType<typeof createAudit>, 'append'>;
    refOf: RefOf;
    findBreak: () => ConsentBreak | null;
    /** Told inside the transaction of each change. */
    onRecord: () => void;
  },
) {
  const rows = rowsOf(db, 'consent_events', consentEventRecord);
  const insert = insertSql('consent_events', rows.keys);
  const { add: onAppend, tell } = createChangeListeners();
  function record(event: ConsentEventRecord): void {
    const { subjectId, kind, recordedBy, id, purpose, documentVersion, validFrom, expiresAt, ...rest } =
      event;
    const { pseudonym } = db.get(pseudonymRow, 'SELECT pseudonym FROM subjects WHERE id = @subjectId', {
      subjectId,
    })!;
    const { recordedAt, givenBy, verifiedOn, reference, afterWithdrawal } = rest;
    const terms = { kind, purpose, documentVersion, validFrom, expiresAt };
    const content: BoundEvent = {
      ...{ id, pseudonym, ...terms, recordedAt, recordedBy },
      ...{ givenBy, verifiedOn, reference, afterWithdrawal },
    };
    const subject = refOf(pseudonym);
    const sha256 = consentHash(content, refOf);
    const said =
      kind === 'grant' ? { documentVersion, validFrom, expiresAt, afterWithdrawal } : { validFrom };
    const details = { subject, event: id, sha256, purpose, ...said };
    audit.append({ actor: recordedBy, action: consentActions[kind], details });
  }
  return {
    /** Hears of every event, whoever records it: a person, an import, a migration. @returns how to stop */
    onAppend,
    ofSubject: (subjectId: number) => rows.all('WHERE subject_id = @subjectId ORDER BY id', { subjectId }),
    /** Events of one purpose (and withdrawals from every purpose) of all subjects. */
    ofPurpose: (purpose: string) => rows.all("WHERE purpose IN (@purpose, '*') ORDER BY id", { purpose }),
    all: () => rows.all('ORDER BY id'),
    /** Writes the audit row, too, which carries the hash of the event. */
    append(event: NewConsentEvent): ConsentEventRecord {
      tell();
      return db.transaction(() => {
        const id = (db.get(idRow, lastId)?.id ?? 0) + 1;
        const unsaid = { givenBy: null, verifiedOn: null, reference: null, afterWithdrawal: null };
        const recordedAt = event.recordedAt ?? now();
        const written = rows.write(insert, { ...unsaid, ...event, id, recordedAt })!;
        record(written);
        onRecord();
        return written;
      });
    },
    /**
     * Before the events of a subject go, the only ones that ever do: a row of the trail names them by number and hash, so that
     * the trail still verifies. Call it in the transaction in which the erasure is `deleting` (`erasures`), before
     * `eraseRows`; the triggers allow it nowhere else.
     */
    sayErased(subjectId: number, actor: string): ErasedEvent[] {
      tell();
      return db.transaction(() => {
        const events = eventsWithHashes(db, subjectId, refOf);
        if (events.length === 0) return events;
        const { pseudonym } = db.get(pseudonymRow, 'SELECT pseudonym FROM subjects WHERE id = @subjectId', {
          subjectId,
        })!;
        const details = { subject: refOf(pseudonym), events };
        audit.append({ actor, action: consentActions.erased, details });
        onRecord();
        return events;
      });
    },
    /** First event that does not fit the trail, or null. */
    findBreak,
  };
}

/**
 * Version 7: consents of earlier versions are bound by one row over the list as it was found.
 * @param merged pseudonyms of which there were several subjects; a row of the trail names each
 */
export function bindOldConsents(db: Sqlite, merged: readonly string[] = []): void {
  const now = () => new Date().toISOString();
  const settings = createSettings(db);
  const { refOf } = createSubjects(db, now, settings);
  const audit = createAudit(db, now, {
    clock: createClock(db, now, settings),
    findBreak: createConsentCheck(db, refOf),
  });
  for (const pseudonym of merged)
    audit.append({ actor: 'anneal', action: 'subjects.merged', details: { subject: refOf(pseudonym) } });
  const details = listAsFound(db, refOf);
  if (details === null) return;
  audit.append({ actor: 'anneal', action: consentActions.bound, details });
}
