/** Where this store stands, and where those stood that it speaks with; docs/protocol.md, "Where each side stands". */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { jsonText } from '../shared/text.ts';
import { rowsOf } from './sql-text.ts';
import type { Sqlite } from './sqlite.ts';

/** A life of a store, and how often it has said something that others may rely on. */
export interface StorePosition {
  /** 32 hexadecimal digits, made with the store and anew when it goes back in time. */
  epoch: string;
  counter: number;
}

const ownEpoch = z.object({ epoch: z.string(), counter: z.int(), endedAt: z.string().nullable() });
const ownInstance = z.object({ instance: z.string(), epoch: z.string(), fromCounter: z.int() });

export function createPosition(db: Sqlite, now: () => string) {
  const epochs = rowsOf(db, 'own_epochs', ownEpoch);
  const instances = rowsOf(db, 'own_instances', ownInstance);
  const current = 'WHERE ended_at IS NULL';
  const insertEpoch = 'INSERT INTO own_epochs (epoch, counter, made_at) VALUES (@epoch, 0, @now)';
  const insertInstance = `INSERT INTO own_instances (instance, epoch, from_counter) VALUES (@instance, @epoch, @counter)
     ON CONFLICT (instance) DO UPDATE SET epoch = excluded.epoch, from_counter = excluded.from_counter`;

  const get = (): StorePosition => {
    const { epoch, counter } = epochs.get(current)!;
    return { epoch, counter };
  };
  const advance = (): StorePosition => {
    const { epoch, counter } = epochs.write(`UPDATE own_epochs SET counter = counter + 1 ${current}`, {})!;
    return { epoch, counter };
  };
  const begin = (instance: string) => void db.run(insertInstance, { instance, ...advance() });

  return {
    get,
    /** Written when it returns; call it in the transaction of what is said. */
    advance,
    /** A process that begins to speak. @param instance random, its own */
    begin: (instance: string): void => db.transaction(() => begin(instance)),
    /** Whether this store has been there: false of what was said by a later state of it, which is lost here. */
    contains({ epoch, counter, instance }: StorePosition & { instance: string }): boolean {
      const life = epochs.get('WHERE epoch = @epoch', { epoch });
      if (life === null) return false;
      // An earlier life was left because something of it was lost, which is known.
      if (life.endedAt !== null) return true;
      const speaker = instances.get('WHERE instance = @instance', { instance });
      if (speaker === null) return false;
      const next = instances.get(
        'WHERE epoch = @epoch AND from_counter > @from ORDER BY from_counter LIMIT 1',
        { epoch, from: speaker.fromCounter },
      );
      return counter <= (next === null ? life.counter : next.fromCounter - 1);
    },
    /** A new life: this store went back in time. @param instance of the process that goes on, null before it speaks */
    renew: (instance: string | null): StorePosition =>
      db.transaction(() => {
        db.run(`UPDATE own_epochs SET ended_at = @now ${current}`, { now: now() });
        db.run(insertEpoch, { epoch: randomBytes(16).toString('hex'), now: now() });
        if (instance !== null) begin(instance);
        return get();
      }),
  };
}

const epochStatus = z.enum(['current', 'pending', 'past']);
export type PeerEpochStatus = z.infer<typeof epochStatus>;
const peerEpoch = z.object({
  peer: z.string(),
  epoch: z.string(),
  status: epochStatus,
  counter: z.int(),
  seenAt: z.string(),
});
export type PeerEpoch = z.infer<typeof peerEpoch>;
const statementRow = z.object({ statement: jsonText });
const trailRow = z.object({ trail: z.string() });

/** Processes of a peer whose last statement is kept, and days whose head is. */
const keptInstances = 8;
const keptDays = 64;
/** Lives of one peer's store: who has had more is not followed any further. */
export const mostPeerEpochs = 200;

export function createPeers(db: Sqlite, now: () => string) {
  const epochs = rowsOf(db, 'peer_epochs', peerEpoch);
  const countRow = z.object({ count: z.int() });
  const upsertEpoch = `INSERT INTO peer_epochs (peer, epoch, status, counter, seen_at)
    VALUES (@peer, @epoch, @status, @counter, @now) ON CONFLICT (peer, epoch) DO UPDATE
    SET counter = max(peer_epochs.counter, excluded.counter), status = excluded.status, seen_at = excluded.seen_at`;
  const upsertPosition = `INSERT INTO peer_positions (peer, instance, counter, statement, seen_at)
    VALUES (@peer, @instance, @counter, @statement, @now) ON CONFLICT (peer, instance) DO UPDATE
    SET counter = excluded.counter, statement = excluded.statement, seen_at = excluded.seen_at
    WHERE excluded.counter >= peer_positions.counter`;
  const forget = `DELETE FROM peer_positions WHERE peer = @peer AND instance NOT IN
    (SELECT instance FROM peer_positions WHERE peer = @peer ORDER BY rowid DESC LIMIT ${keptInstances})`;
  return {
    /** Null when it was never heard of. */
    epoch: (peer: string, epoch: string) =>
      epochs.get('WHERE peer = @peer AND epoch = @epoch', { peer, epoch }),
    current: (peer: string) => epochs.get("WHERE peer = @peer AND status = 'current'", { peer }),
    /** Whether more lives of this peer's store may be remembered. */
    hasRoom: (peer: string): boolean =>
      db.get(countRow, 'SELECT count(*) AS count FROM peer_epochs WHERE peer = @peer', { peer })!.count <
      mostPeerEpochs,
    /** A status of `current` makes the one before a past one. */
    note: (peer: string, { epoch, counter }: StorePosition, status: PeerEpochStatus): void =>
      db.transaction(() => {
        const known = epochs.get('WHERE peer = @peer AND epoch = @epoch', { peer, epoch });
        if (status === 'current' && known?.status !== 'current') {
          const sql = `UPDATE peer_epochs SET status = 'past' WHERE peer = @peer AND epoch <> @epoch AND status <> 'past'`;
          db.run(sql, { peer, epoch });
        }
        db.run(upsertEpoch, { peer, epoch, status, counter, now: now() });
      }),
    /** Keeps what a process of the peer said last of where it stands. @param statement JSON */
    keepStatement: (peer: string, instance: string, counter: number, statement: unknown): void =>
      db.transaction(() => {
        const row = { peer, instance, counter, statement: JSON.stringify(statement), now: now() };
        db.run(upsertPosition, row);
        db.run(forget, { peer });
      }),
    /** What its last processes said, in the order in which they began to speak, the newest first: no clock is asked; parse them with `signedPositionSchema`. */
    statements: (peer: string, limit: number): unknown[] =>
      db
        .all(
          statementRow,
          'SELECT statement FROM peer_positions WHERE peer = @peer ORDER BY rowid DESC LIMIT @limit',
          { peer, limit },
        )
        .map(({ statement }) => statement),
    /** The head of its trail today, by the clock here, as it closed it. */
    keepTrail: (peer: string, trail: string): void =>
      db.transaction(() => {
        const upsert = `INSERT INTO peer_trails (peer, day, trail) VALUES (@peer, @day, @trail)
          ON CONFLICT (peer, day) DO UPDATE SET trail = excluded.trail`;
        db.run(upsert, { peer, day: now().slice(0, 10), trail });
        const old = `DELETE FROM peer_trails WHERE peer = @peer AND day NOT IN
          (SELECT day FROM peer_trails WHERE peer = @peer ORDER BY day DESC LIMIT ${keptDays})`;
        db.run(old, { peer });
      }),
    /** They lead nowhere any more: a person at the site has confirmed that it goes on from an earlier state. */
    forgetTrails: (peer: string): void => void db.run('DELETE FROM peer_trails WHERE peer = @peer', { peer }),
    /** Newest first. */
    trails: (peer: string): string[] =>
      db
        .all(trailRow, 'SELECT trail FROM peer_trails WHERE peer = @peer ORDER BY day DESC', { peer })
        .map(({ trail }) => trail),
  };
}

export type Position = ReturnType<typeof createPosition>;
export type Peers = ReturnType<typeof createPeers>;
