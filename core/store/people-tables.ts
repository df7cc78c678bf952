/** Accounts of people, and what one of them proposed to another. */
import { type ProposalRecord, proposalRecord, type UserRecord, userRecord } from './records.ts';
import { asColumns, assignments, insertSql, type Patch, rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

type ChangeableUser = Omit<UserRecord, 'name' | 'createdAt' | 'createdBy'>;

export function createUsers(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'users', userRecord);
  return {
    get: (name: string) => rows.get('WHERE name = @name', { name }),
    /** By name, deactivated ones included: names are never used again. */
    list: () => rows.all('ORDER BY name'),
    add: (user: Omit<UserRecord, 'createdAt' | 'deactivatedAt'>): UserRecord =>
      rows.write(
        insertSql('users', rows.keys),
        columnsOf({ ...user, createdAt: now(), deactivatedAt: null }),
      )!,
    /** Null when unknown. */
    change: (name: string, changes: Patch<ChangeableUser>): UserRecord | null => {
      const columns = columnsOf(changes);
      return rows.write(`UPDATE users SET ${assignments(Object.keys(columns))} WHERE name = @name`, {
        ...columns,
        name,
      });
    },
  };
}

function columnsOf({ mustChange, ...fields }: Patch<UserRecord>) {
  return asColumns({ ...fields, mustChange: mustChange === undefined ? undefined : mustChange ? 1 : 0 });
}

export function createProposals(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'proposals', proposalRecord);
  const given = ['kind', 'sha256', 'input', 'proposedBy', 'proposedAt', 'expiresAt'];
  const isOpen = 'outcome IS NULL AND expires_at > @now';
  return {
    get: (id: number) => rows.get('WHERE id = @id', { id }),
    /** Neither settled nor expired; oldest first. */
    pending: () => rows.all(`WHERE ${isOpen} ORDER BY id`, { now: now() }),
    /** The pending one of exactly this act. */
    pendingOf: (kind: ProposalRecord['kind'], sha256: string) =>
      rows.get(`WHERE kind = @kind AND sha256 = @sha256 AND ${isOpen} ORDER BY id LIMIT 1`, {
        kind,
        sha256,
        now: now(),
      }),
    add: (
      proposal: Pick<ProposalRecord, 'kind' | 'sha256' | 'input' | 'proposedBy' | 'expiresAt'>,
    ): ProposalRecord =>
      rows.write(insertSql('proposals', given), { ...asColumns(proposal), proposedAt: now() })!,
    /** False when it is settled already. What was proposed is kept only as its hash. */
    settle: (id: number, outcome: NonNullable<ProposalRecord['outcome']>, by: string): boolean =>
      db.run(
        `UPDATE proposals SET outcome = @outcome, settled_by = @by, settled_at = @now WHERE id = @id AND outcome IS NULL`,
        { id, outcome, by, now: now() },
      ).changes === 1,
    /** A confirmed act that then failed waits again. */
    reopen: (id: number): void => {
      db.run('UPDATE proposals SET outcome = NULL, settled_by = NULL, settled_at = NULL WHERE id = @id', {
        id,
      });
    },
    /** Settles those whose time is over, and gives them. */
    expire: (): ProposalRecord[] => {
      const over = rows.all('WHERE outcome IS NULL AND expires_at <= @now ORDER BY id', { now: now() });
      for (const { id } of over)
        db.run(
          `UPDATE proposals SET outcome = 'expired', settled_by = 'anneal', settled_at = @now WHERE id = @id`,
          { id, now: now() },
        );
      return over;
    },
  };
}
