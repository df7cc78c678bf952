/** What a site decides: its policy, the contracts it was shown, and what people said to them. */
import {
  type ContractRecord,
  contractPins,
  contractRecord,
  type DecisionRecord,
  decisionRecord,
  type SitePolicyRecord,
  sitePolicyRecord,
} from './records.ts';
import { asColumns, insertSql, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

export function createSitePolicies(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'site_policies', sitePolicyRecord);
  const newest = () => rows.get('ORDER BY version DESC LIMIT 1');
  return {
    /** The one that holds; null before the first start of a site. */
    newest,
    /** Newest first. */
    list: () => rows.all('ORDER BY version DESC'),
    append(policy: Pick<SitePolicyRecord, 'policy' | 'sha256' | 'actor'>): SitePolicyRecord {
      const row = { ...policy, version: (newest()?.version ?? 0) + 1, createdAt: now() };
      return rows.write(insertSql('site_policies', rows.keys), asColumns(row))!;
    },
  };
}

export function createContracts(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'contracts', contractRecord);
  const pins = rowsOf(db, 'contracts', contractPins);
  const insert = insertSql('contracts', rows.keys);
  const pinsOf = (runId: string) => pins.get('WHERE run_id = @runId', { runId });
  return {
    /** What of a run stays as it is; without the document, which may be large and is asked for at each manifest. */
    pinsOf,
    get: (runId: string) => rows.get('WHERE run_id = @runId', { runId }),
    /** Of the run that asked last. */
    bySha: (sha256: string) =>
      rows.get('WHERE sha256 = @sha256 ORDER BY created_at DESC, rowid DESC LIMIT 1', { sha256 }),
    /** The first one of a run stays. */
    keep(contract: Pick<ContractRecord, 'runId' | 'sha256' | 'document'>): void {
      if (pinsOf(contract.runId) !== null) return;
      const row = { ...contract, finalStateSha256: null, createdAt: now() };
      db.run(insert, asColumns(row));
    },
    /** The first one stays. */
    pinFinalState(runId: string, finalStateSha256: string): void {
      const sql = `UPDATE contracts SET final_state_sha256 = @finalStateSha256
        WHERE run_id = @runId AND final_state_sha256 IS NULL`;
      db.run(sql, { runId, finalStateSha256 });
    },
    /** The coordinator went back, and the run ends anew. */
    unpinFinalState(runId: string): void {
      db.run('UPDATE contracts SET final_state_sha256 = NULL WHERE run_id = @runId', { runId });
    },
  };
}

export function createDecisions(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'decisions', decisionRecord);
  const given = ['runId', 'contractSha256', 'kind', 'standing', 'coveredBy', 'reason', 'actor', 'createdAt'];
  const unset = { standing: null, coveredBy: null, reason: null };
  return {
    get: (id: number) => rows.get('WHERE id = @id', { id }),
    /** The newest decision about a contract itself; null when nobody has decided. */
    newestOn: (contractSha256: string) =>
      rows.get('WHERE contract_sha256 = @contractSha256 ORDER BY id DESC LIMIT 1', { contractSha256 }),
    /** The same of one run with this contract: another one that asks for the very same is another question. */
    newestOfRun: (runId: string, contractSha256: string) =>
      rows.get('WHERE run_id = @runId AND contract_sha256 = @contractSha256 ORDER BY id DESC LIMIT 1', {
        runId,
        contractSha256,
      }),
    /** Approvals within limits that were not taken back, newest first. */
    standing: () => rows.all("WHERE kind = 'approved-within-limits' AND ended_at IS NULL ORDER BY id DESC"),
    /** Newest first; all of them when `limit` is -1. */
    list: (limit = 200) => rows.all('ORDER BY id DESC LIMIT @limit', { limit }),
    /** Runs that an approval within limits has covered, that on its card included. */
    runsCoveredBy: (id: number) =>
      new Set(rows.all('WHERE id = @id OR covered_by = @id', { id }).map(({ runId }) => runId)),
    append: (
      decision: Pick<DecisionRecord, 'runId' | 'contractSha256' | 'kind' | 'actor'> &
        Partial<Pick<DecisionRecord, 'standing' | 'coveredBy' | 'reason'>>,
    ): DecisionRecord =>
      rows.write(insertSql('decisions', given), { ...unset, ...asColumns(decision), createdAt: now() })!,
    /** False when it has ended already. */
    end: (id: number): boolean =>
      db.run('UPDATE decisions SET ended_at = @now WHERE id = @id AND ended_at IS NULL', { id, now: now() })
        .changes === 1,
  };
}
