/**
 * Binds consents to the audit trail: for each event one row carries the hash of all that the event says, so that an event
 * that was changed, removed, inserted or exchanged shows when the two are held against each other.
 */
import { z } from 'zod';
import { hashJson } from '../shared/hash.ts';
import { jsonText } from '../shared/text.ts';
import type { Sqlite } from './sqlite.ts';

/** What of an event is bound. A column that a later version adds needs a new list for later events. */
const boundEvent = z.object({
  id: z.int(),
  pseudonym: z.string(),
  kind: z.string(),
  purpose: z.string(),
  documentVersion: z.string().nullable(),
  validFrom: z.string(),
  expiresAt: z.string().nullable(),
  recordedAt: z.string(),
  recordedBy: z.string(),
  givenBy: z.string().nullable(),
  verifiedOn: z.string().nullable(),
  reference: z.string().nullable(),
  afterWithdrawal: z.int().nullable(),
});
export type BoundEvent = z.infer<typeof boundEvent>;

const events = `SELECT event.id AS id, pseudonym, kind, purpose, document_version AS documentVersion,
  valid_from AS validFrom, expires_at AS expiresAt, recorded_at AS recordedAt, recorded_by AS recordedBy,
  given_by AS givenBy, verified_on AS verifiedOn, reference, after_withdrawal AS afterWithdrawal
  FROM consent_events AS event JOIN subjects ON subjects.id = event.subject_id`;

/** Who is who is said by `subjects.refOf`: the trail must not name anybody. */
export type RefOf = (pseudonym: string) => string;

/** SHA-256 of what an event says. */
export function consentHash({ pseudonym, ...content }: BoundEvent, refOf: RefOf): string {
  return hashJson({ ...content, subject: refOf(pseudonym) });
}

const erasedEvent = z.object({ event: z.int(), sha256: z.string() });
export type ErasedEvent = z.infer<typeof erasedEvent>;

/** Events of one subject with their hashes, for the row that says that they are erased. */
export function eventsWithHashes(db: Sqlite, subjectId: number, refOf: RefOf): ErasedEvent[] {
  const rows = db.all(boundEvent, `${events} WHERE event.subject_id = @subjectId ORDER BY event.id`, {
    subjectId,
  });
  return rows.map((event) => ({ event: event.id, sha256: consentHash(event, refOf) }));
}

/** Actions of audit rows that bind: one event, all that was there at version 7, and what was erased. */
export const consentActions = {
  grant: 'consent.granted',
  withdraw: 'consent.withdrawn',
  bound: 'consents.bound',
  erased: 'consents.erased',
} as const;

/** For the row that binds events of versions before 7, which had no hash; null when there are none. */
export function listAsFound(
  db: Sqlite,
  refOf: RefOf,
): { events: number; lastEvent: number; sha256: string } | null {
  const found = db.all(boundEvent, `${events} ORDER BY event.id`);
  const last = found.at(-1);
  if (last === undefined) return null;
  const list = found.map((event) => ({ event: event.id, sha256: consentHash(event, refOf) }));
  return { events: list.length, lastEvent: last.id, sha256: hashJson(list) };
}

/** Where consents and trail differ. */
export interface ConsentBreak {
  /** Number of the consent event; null when it is the list of versions before 7 that differs. */
  event: number | null;
  /** The audit row that recorded it; null when there is none. */
  seq: number | null;
}

const bindingRow = z.object({ seq: z.int(), action: z.string(), details: jsonText });
const recordedDetails = z.object({ event: z.int(), sha256: z.string() });
const boundDetails = z.object({ lastEvent: z.int(), sha256: z.string() });
const erasedDetails = z.object({ events: z.array(erasedEvent) });
const bindingRows = `SELECT seq, action, details FROM audit
  WHERE action IN (SELECT value FROM json_each(@actions)) ORDER BY seq`;

interface Bindings {
  recorded: Map<number, { sha256: string; seq: number }>;
  /** Of erased events. */
  erased: Map<number, { sha256: string; seq: number }>;
  bound: { lastEvent: number; sha256: string; seq: number } | null;
  /** Two rows that say different things of one event. */
  twice: ConsentBreak | null;
}

export type BindingRow = z.infer<typeof bindingRow>;

/** @param rows of the actions above, oldest first */
function readBindings(rows: Iterable<BindingRow>): Bindings {
  const found: Bindings = { recorded: new Map(), erased: new Map(), bound: null, twice: null };
  const note = (map: Bindings['recorded'], { event, sha256 }: ErasedEvent, seq: number) => {
    if (map.has(event)) found.twice ??= { event, seq };
    else map.set(event, { sha256, seq });
  };
  for (const { seq, action, details } of rows) {
    if (action === consentActions.bound) {
      const parsed = boundDetails.safeParse(details).data;
      if (found.bound !== null || parsed === undefined) found.twice ??= { event: null, seq };
      else found.bound = { ...parsed, seq };
    } else if (action === consentActions.erased) {
      for (const one of erasedDetails.safeParse(details).data?.events ?? []) note(found.erased, one, seq);
    } else {
      // Rows of versions before 7 name no event.
      const parsed = recordedDetails.safeParse(details).data;
      if (parsed !== undefined) note(found.recorded, parsed, seq);
    }
  }
  return found;
}

/**
 * Holds every event against its row, and every row against its event; erased ones against the row that says so. Cheap
 * beside a walk over the whole trail: it reads the rows about consents only, and trusts what they say.
 * @returns the first that differs, or null
 */
function findConsentBreak(db: Sqlite, refOf: RefOf): ConsentBreak | null {
  const actions = JSON.stringify(Object.values(consentActions));
  const rows = db.all(bindingRow, bindingRows, { actions });
  const list = db
    .all(boundEvent, `${events} ORDER BY event.id`)
    .map((event) => ({ event: event.id, sha256: consentHash(event, refOf) }));
  return breakBetween(rows, list);
}

/**
 * The same of events and rows that are given, for instance in an evidence bundle.
 * @param list events with their hashes, by number
 */
export function breakBetween(rows: Iterable<BindingRow>, list: Iterable<ErasedEvent>): ConsentBreak | null {
  const { recorded, erased, bound, twice } = readBindings(rows);
  if (twice !== null) return twice;
  const lastOld = bound?.lastEvent ?? 0;
  const old: ErasedEvent[] = [];
  const seen = new Set<number>();
  for (const { event: id, sha256 } of list) {
    const row = recorded.get(id);
    seen.add(id);
    if (erased.has(id)) return { event: id, seq: erased.get(id)!.seq };
    if (id <= lastOld) old.push({ event: id, sha256 });
    else if (row?.sha256 !== sha256) return { event: id, seq: row?.seq ?? null };
  }
  for (const [event, { sha256, seq }] of recorded)
    if (!seen.has(event) && erased.get(event)?.sha256 !== sha256) return { event, seq };
  for (const [event, { sha256, seq }] of erased) {
    if (event <= lastOld) old.push({ event, sha256 });
    else if (!recorded.has(event)) return { event, seq };
  }
  old.sort((a, b) => a.event - b.event);
  if (bound !== null && hashJson(old) !== bound.sha256) return { event: null, seq: bound.seq };
  return null;
}

const extentRow = z.object({ events: z.int(), id: z.int().nullable() });
const extent = 'SELECT count(*) AS events, max(id) AS id FROM consent_events';

/**
 * The same, kept: what was found whole is not read again until another process has written into the file, or this one has
 * recorded or erased a consent.
 */
export function createConsentCheck(db: Sqlite, refOf: RefOf): () => ConsentBreak | null {
  let whole = '';
  return () => {
    const { events: count, id } = db.get(extentRow, extent)!;
    const now = [Number(db.pragma('data_version')), count, id].join(' ');
    if (now === whole) return null;
    const found = findConsentBreak(db, refOf);
    if (found === null) whole = now;
    return found;
  };
}
