/** Settings, the registry of a coordinator, and messages that wait for their answer. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import {
  type InvitationRecord,
  invitationRecord,
  outboxRecord,
  type SiteRecord,
  siteRecord,
} from './records.ts';
import { asColumns, insertSql, replacements, rowsOf, whereSql } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

const valueRow = z.object({ value: z.string() });

export function createSettings(db: Sqlite) {
  return {
    /** Null when never set. @throws AppError DATABASE_DAMAGED when the stored value does not fit the schema */
    get<T>(key: string, schema: z.ZodType<T>): T | null {
      const row = db.get(valueRow, 'SELECT value FROM settings WHERE key = @key', { key });
      if (row === null) return null;
      const parsed = schema.safeParse(JSON.parse(row.value));
      if (!parsed.success) {
        throw new AppError('DATABASE_DAMAGED', `The stored setting "${key}" cannot be read.`, {
          cause: parsed.error,
        });
      }
      return parsed.data;
    },
    has: (key: string): boolean =>
      db.get(valueRow, 'SELECT value FROM settings WHERE key = @key', { key }) !== null,
    /** `value` must have a JSON form. */
    set(key: string, value: unknown): void {
      const text = JSON.stringify(value);
      if (text === undefined) throw new TypeError(`setting ${key} has no JSON form`);
      const sql = `${insertSql('settings', ['key', 'value'])} ON CONFLICT (key) DO UPDATE SET value = excluded.value`;
      db.run(sql, { key, value: text });
    },
    remove(key: string): void {
      db.run('DELETE FROM settings WHERE key = @key', { key });
    },
  };
}

export function createSites(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'sites', siteRecord);
  const given = ['id', 'name', 'publicKey', 'certificateSerial', 'joinedAt'];
  const upsert = `${insertSql('sites', given)} ON CONFLICT (id) DO UPDATE
    SET ${replacements(given.slice(1))}, revoked_at = NULL, dismissed_until = NULL, dismissal_reason = NULL`;
  return {
    get: (id: string) => rows.get('WHERE id = @id', { id }),
    /** By name, revoked ones included. */
    list: () => rows.all('ORDER BY name, id'),
    /** A site that joins again gets its new key and certificate; revocation and dismissal are lifted. */
    upsert: (site: Pick<SiteRecord, 'id' | 'name' | 'publicKey' | 'certificateSerial'>) =>
      rows.write(upsert, { ...site, joinedAt: now() })!,
    /** False when unknown or revoked already. */
    revoke(id: string): boolean {
      const sql = 'UPDATE sites SET revoked_at = @now WHERE id = @id AND revoked_at IS NULL';
      return db.run(sql, { id, now: now() }).changes === 1;
    },
    /** What the site published last. */
    setPolicy(id: string, policy: unknown): void {
      db.run('UPDATE sites SET policy = @policy WHERE id = @id', { id, policy: JSON.stringify(policy) });
    },
    dismiss(id: string, until: string, reason: string): void {
      const sql = 'UPDATE sites SET dismissed_until = @until, dismissal_reason = @reason WHERE id = @id';
      db.run(sql, { id, until, reason });
    },
    touchLastSeen(id: string, at: string = now()): void {
      db.run('UPDATE sites SET last_seen_at = @at WHERE id = @id', { id, at });
    },
  };
}

export function createInvitations(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'invitations', invitationRecord);
  const insert = insertSql('invitations', ['id', 'siteName', 'tokenSha256', 'createdAt', 'expiresAt']);
  return {
    byId: (id: string) => rows.get('WHERE id = @id', { id }),
    /** Newest first. */
    list: () => rows.all('ORDER BY created_at DESC, rowid DESC'),
    insert: (invitation: Pick<InvitationRecord, 'id' | 'siteName' | 'tokenSha256' | 'expiresAt'>) =>
      rows.write(insert, { ...invitation, createdAt: now() })!,
    /** True for the one caller that used it first; false when unknown or used already. */
    markUsed(id: string, siteId: string): boolean {
      const sql =
        'UPDATE invitations SET used_at = @now, site_id = @siteId WHERE id = @id AND used_at IS NULL';
      return db.run(sql, { id, siteId, now: now() }).changes === 1;
    },
  };
}

/** What an answer says of the message that it answers; each field given must be that of the message. */
export interface AnsweredMessage {
  messageId?: string | undefined;
  type?: string | undefined;
  runId?: string | undefined;
  round?: number | undefined;
  updateSha256?: string | undefined;
}
export interface NewMessage extends AnsweredMessage {
  topic: string;
  payload: Uint8Array;
  messageId: string;
  type: string;
  retain?: boolean | undefined;
}

/** What makes "state first, message afterwards" hold over crashes. */
export function createOutbox(db: Sqlite, now: () => string) {
  const rows = rowsOf(db, 'outbox', outboxRecord);
  const unset = { retain: false, runId: null, round: null, updateSha256: null };
  const given = ['topic', 'payload', 'messageId', 'type', 'createdAt'];
  const insert = insertSql('outbox', [...given, ...Object.keys(unset)]);
  return {
    /** Oldest first, not yet answered. */
    pending: (limit = 100) => rows.all('WHERE sent_at IS NULL ORDER BY id LIMIT @limit', { limit }),
    /** Whether it waits for its answer still. */
    isPending: (id: number) => rows.get('WHERE id = @id AND sent_at IS NULL', { id }) !== null,
    /** Call it in the transaction that changes the state it speaks of. Gives the id. */
    add: (message: NewMessage): number =>
      db.run(insert, { ...unset, ...asColumns(message), createdAt: now() }).lastId,
    /** Takes messages out that were answered. */
    markAnswered(answered: AnsweredMessage): void {
      const where = whereSql(answered);
      if (where === '') throw new TypeError('an answer is about something');
      db.run(`UPDATE outbox SET sent_at = @now${where} AND sent_at IS NULL`, { ...answered, now: now() });
    },
    /** Sends answered messages of this type once more that hold a text; gives how many there are. */
    repeat: (type: string, text: string): number =>
      db.run(
        'UPDATE outbox SET sent_at = NULL WHERE type = @type AND sent_at IS NOT NULL AND instr(CAST(payload AS TEXT), @text) > 0',
        { type, text },
      ).changes,
    /** Forgets messages answered before this time; gives how many. */
    prune: (before: string): number =>
      db.run('DELETE FROM outbox WHERE sent_at < @before', { before }).changes,
  };
}
