/** The audit trail: each row carries the hash of the one before, so that a changed or missing row shows. */
import { z } from 'zod';
import { canonicalJson, sha256 } from '../shared/hash.ts';
import type { Clock } from './clock.ts';
import type { ConsentBreak } from './consent-chain.ts';
import { type AuditRecord, auditRecord } from './records.ts';
import { insertSql, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

/** What the first row follows. */
export const auditGenesisHash = '0'.repeat(64);

const rawRow = auditRecord.extend({ details: z.string() });
type RawRow = z.infer<typeof rawRow>;

export interface AuditVerification {
  /** The chain is whole, and so are the consents that its rows record. */
  intact: boolean;
  /** First row that does not fit the chain. */
  brokenAtSeq: number | null;
  /** First consent that does not fit the row that recorded it. */
  brokenConsent: ConsentBreak | null;
  rows: number;
  /** Hash of the newest row; 64 zeros when empty. Kept elsewhere, it also proves that no tail was cut off. */
  head: string;
}

/** SHA-256 of the previous hash followed by the canonical JSON (RFC 8785) of the row's other columns. */
export function chainHash(row: Omit<RawRow, 'hash'>): string {
  const { previousHash, ...content } = row;
  return sha256(previousHash + canonicalJson(content));
}

/** What an erasure's own row says of each row whose details it replaced. */
export const redactionSchema = z.strictObject({
  seq: z.int().positive(),
  /** Of the row, as the chain has it. */
  hash: z.string(),
  /** What its hash would be with what stands in its details now. */
  becomes: z.string(),
});
export type Redaction = z.infer<typeof redactionSchema>;

export const erasedAction = 'subject.erased';
const erasedDetails = z.object({ redacted: z.array(redactionSchema) });

const nothingYet = { dataVersion: -1, count: 0, head: auditGenesisHash };

export function createAudit(
  db: Sqlite,
  now: () => string,
  {
    clock,
    findBreak,
    requireInPlace = () => {},
  }: {
    clock: Pick<Clock, 'remember'>;
    findBreak: () => ConsentBreak | null;
    /** Throws where what is written would be lost. */
    requireInPlace?: (() => void) | undefined;
  },
) {
  const rows = rowsOf(db, 'audit', auditRecord);
  const raw = rowsOf(db, 'audit', rawRow);
  const insert = insertSql('audit', rows.keys);
  let whole = nothingYet;
  return {
    /** Newest first, at most `limit` (default 100) rows older than `beforeSeq`. */
    page: ({
      beforeSeq = Number.MAX_SAFE_INTEGER,
      limit = 100,
    }: {
      beforeSeq?: number | undefined;
      limit?: number | undefined;
    } = {}) => rows.all('WHERE seq < @beforeSeq ORDER BY seq DESC LIMIT @limit', { beforeSeq, limit }),
    /** As stored, oldest first; `details` is canonical JSON. */
    raw: () => raw.each('ORDER BY seq'),
    /** Rows that name a subject by its keyed hash, oldest first. */
    about: (subject: string) => rows.all('WHERE instr(details, @subject) > 0 ORDER BY seq', { subject }),
    /** Newest first. */
    allOf: (action: string) => rows.all('WHERE action = @action ORDER BY seq DESC', { action }),
    newestOf: (action: string) => rows.get('WHERE action = @action ORDER BY seq DESC LIMIT 1', { action }),
    /**
     * Recomputes every hash, and holds the consents against their rows. A row whose details an erasure replaced fits by its
     * links, and by what the erasure's own row says of it; by nothing else. What this process has found whole is not walked
     * again until another one writes into the file: a screen asks often, and a trail grows long.
     */
    verify(): AuditVerification {
      const erasures = raw.all('WHERE action = @action ORDER BY seq', { action: erasedAction });
      const redactions = redactionsIn(erasures);
      const dataVersion = Number(db.pragma('data_version'));
      let { count, head } = whole.dataVersion === dataVersion ? whole : nothingYet;
      let brokenAtSeq: AuditVerification['brokenAtSeq'] = null;
      for (const row of raw.each(`WHERE seq > ${count} ORDER BY seq`)) {
        count++;
        const isNext = row.seq === count && row.previousHash === head;
        if (!isNext || !fitsItsHash(row, redactions.get(row.seq))) brokenAtSeq ??= row.seq;
        head = row.hash;
      }
      if (brokenAtSeq === null) whole = { dataVersion, count, head };
      const brokenConsent = findBreak();
      const intact = brokenAtSeq === null && brokenConsent === null;
      return { intact, brokenAtSeq, brokenConsent, rows: count, head };
    },
    /**
     * Replaces details, in the transaction of an erasure. Call it with what is to stand there, or null to leave a row.
     * @returns what the erasure's row has to say of it
     */
    redact(replace: (details: Record<string, unknown>) => Record<string, unknown> | null): Redaction[] {
      const redactions: Redaction[] = [];
      whole = nothingYet;
      for (const { hash, ...row } of raw.all('ORDER BY seq')) {
        const replaced = row.action === erasedAction ? null : replace(JSON.parse(row.details));
        if (replaced === null) continue;
        const details = canonicalJson(replaced);
        db.run('UPDATE audit SET details = @details WHERE seq = @seq', { seq: row.seq, details });
        redactions.push({ seq: row.seq, hash, becomes: chainHash({ ...row, details }) });
      }
      return redactions;
    },
    /** `details` must be JSON. Subjects by `subjects.refOf` and hashes, never pseudonyms, file names or paths. */
    append: (entry: { actor: string; action: string; details: Record<string, unknown> }): AuditRecord =>
      db.transaction(() => {
        requireInPlace();
        clock.remember(true);
        const last = raw.get('ORDER BY seq DESC LIMIT 1');
        const content = {
          seq: (last?.seq ?? 0) + 1,
          at: now(),
          actor: entry.actor,
          action: entry.action,
          details: canonicalJson(entry.details),
          previousHash: last?.hash ?? auditGenesisHash,
        };
        return rows.write(insert, { ...content, hash: chainHash(content) })!;
      }),
  };
}

/**
 * What erasures say of earlier rows whose details they replaced, by row. The newest of each: a row that named two subjects may
 * have been replaced twice.
 * @param rows oldest first; details as stored, null where they are not shown
 */
export function redactionsIn(
  rows: readonly (Pick<RawRow, 'seq' | 'action'> & { details: string | null })[],
): Map<number, Redaction> {
  const said = rows.flatMap((row) => {
    if (row.action !== erasedAction || row.details === null) return [];
    const details = erasedDetails.safeParse(JSON.parse(row.details)).data?.redacted ?? [];
    // An erasure cannot speak of what was written after it, nor of itself.
    return details.filter(({ seq }) => seq < row.seq);
  });
  return new Map(said.map((redaction) => [redaction.seq, redaction]));
}

/** Whether a row says what its hash says, or what an erasure put there. @param said of the row, by {@link redactionsIn} */
export function fitsItsHash({ hash, ...content }: RawRow, said: Redaction | undefined): boolean {
  const own = chainHash(content);
  // What an erasure says of others is never replaced.
  return own === hash || (content.action !== erasedAction && said?.hash === hash && said.becomes === own);
}
