import { invitationRecord } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Invitations, InvitationsReader } from './tables.ts';

const columns = selectList(invitationRecord);

export function createInvitationsReader(db: Sqlite): InvitationsReader {
  return {
    byId(id) {
      return db.get(invitationRecord, `SELECT ${columns} FROM invitations WHERE id = @id`, { id });
    },
    list() {
      return db.all(
        invitationRecord,
        `SELECT ${columns} FROM invitations ORDER BY created_at DESC, rowid DESC`,
      );
    },
  };
}

export function createInvitations(db: Sqlite, now: () => string): Invitations {
  return {
    ...createInvitationsReader(db),
    insert(invitation) {
      return db.get(
        invitationRecord,
        `INSERT INTO invitations (id, site_name, token_sha256, created_at, expires_at)
         VALUES (@id, @siteName, @tokenSha256, @now, @expiresAt) RETURNING ${columns}`,
        { ...invitation, now: now() },
      )!;
    },
    markUsed(id, siteId) {
      const sql =
        'UPDATE invitations SET used_at = @now, site_id = @siteId WHERE id = @id AND used_at IS NULL';
      return db.run(sql, { id, siteId, now: now() }).changes === 1;
    },
  };
}
