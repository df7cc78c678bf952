/** The audit trail: each row carries the hash of the one before, so that a changed or missing row shows. */
import { z } from 'zod';
import { canonicalJson, sha256 } from '../shared/hash.ts';
import { auditRecord } from './records.ts';
import { insertSql, selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Audit, AuditReader, AuditVerification } from './tables.ts';

/** What the first row follows. */
export const auditGenesisHash = '0'.repeat(64);

const columns = selectList(auditRecord);
const insert = `${insertSql('audit', Object.keys(auditRecord.shape))} RETURNING ${columns}`;
const rawRow = auditRecord.extend({ details: z.string() });
type RawRow = z.infer<typeof rawRow>;

/** SHA-256 of the previous hash followed by the canonical JSON (RFC 8785) of the row's other columns. */
function chainHash(row: Omit<RawRow, 'hash'>): string {
  const { previousHash, ...content } = row;
  return sha256(previousHash + canonicalJson(content));
}

export function createAuditReader(db: Sqlite): AuditReader {
  return {
    page({ beforeSeq = Number.MAX_SAFE_INTEGER, limit = 100 } = {}) {
      return db.all(
        auditRecord,
        `SELECT ${columns} FROM audit WHERE seq < @beforeSeq ORDER BY seq DESC LIMIT @limit`,
        { beforeSeq, limit },
      );
    },
    verify() {
      let previousHash = auditGenesisHash;
      let rows = 0;
      let brokenAtSeq: AuditVerification['brokenAtSeq'] = null;
      for (const row of db.each(rawRow, `SELECT ${columns} FROM audit ORDER BY seq`)) {
        const { hash, ...content } = row;
        rows++;
        const fits = row.seq === rows && row.previousHash === previousHash && hash === chainHash(content);
        if (!fits) brokenAtSeq ??= row.seq;
        previousHash = hash;
      }
      return { intact: brokenAtSeq === null, brokenAtSeq, rows, head: previousHash };
    },
  };
}

export function createAudit(db: Sqlite, now: () => string): Audit {
  return {
    ...createAuditReader(db),
    append({ actor, action, details }) {
      return db.transaction(() => {
        const last = db.get(rawRow, `SELECT ${columns} FROM audit ORDER BY seq DESC LIMIT 1`);
        const content = {
          seq: (last?.seq ?? 0) + 1,
          at: now(),
          actor,
          action,
          details: canonicalJson(details),
          previousHash: last?.hash ?? auditGenesisHash,
        };
        return db.get(auditRecord, insert, { ...content, hash: chainHash(content) })!;
      });
    },
  };
}
