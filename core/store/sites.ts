import { siteRecord } from './records.ts';
import { selectList } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';
import type { Sites, SitesReader } from './tables.ts';

const columns = selectList(siteRecord);

export function createSitesReader(db: Sqlite): SitesReader {
  return {
    get(id) {
      return db.get(siteRecord, `SELECT ${columns} FROM sites WHERE id = @id`, { id });
    },
    list() {
      return db.all(siteRecord, `SELECT ${columns} FROM sites ORDER BY name, id`);
    },
  };
}

export function createSites(db: Sqlite, now: () => string): Sites {
  return {
    ...createSitesReader(db),
    upsert(site) {
      return db.get(
        siteRecord,
        `INSERT INTO sites (id, name, public_key, certificate_serial, joined_at)
         VALUES (@id, @name, @publicKey, @certificateSerial, @now)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, public_key = excluded.public_key,
           certificate_serial = excluded.certificate_serial, joined_at = excluded.joined_at, revoked_at = NULL
         RETURNING ${columns}`,
        { ...site, now: now() },
      )!;
    },
    revoke(id) {
      const sql = 'UPDATE sites SET revoked_at = @now WHERE id = @id AND revoked_at IS NULL';
      return db.run(sql, { id, now: now() }).changes === 1;
    },
    touchLastSeen(id, at = now()) {
      db.run('UPDATE sites SET last_seen_at = @at WHERE id = @id', { id, at });
    },
  };
}
