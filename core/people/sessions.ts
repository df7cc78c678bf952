/**
 * Who is signed in. Kept in memory only: after a restart everybody signs in again, and a stolen data folder holds no
 * session. A token is known by its hash, so that finding one takes no time that depends on how much of it is right.
 */
import { createHash, randomBytes } from 'node:crypto';

/** The way in: a token that was given over one is worth nothing over the other. */
export type Channel = 'socket' | 'loopback';

/** Whatever the person does, they sign in again once a day. */
const longestMs = 12 * 3_600_000;
/** Windows and browsers of one person; the oldest makes room. */
const mostOfAccount = 20;

export interface Session {
  readonly account: string;
  readonly isLocked: boolean;
}

interface Entry {
  account: string;
  channel: Channel;
  startedAt: number;
  lastActiveAt: number;
  isLocked: boolean;
}

export interface SessionOptions {
  lockAfterMinutes: () => number;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface Sessions {
  /** A new session with a new token: what the caller came with plays no part in it. */
  open(account: string, channel: Channel): string;
  /** Null when unknown, ended or too old. Locks one that was idle for too long. */
  find(token: string, channel: Channel): Session | null;
  /** A person did something. */
  touch(token: string): void;
  lock(token: string): void;
  unlock(token: string): void;
  close(token: string): void;
  /** @param except a token whose session stays */
  closeAllOf(account: string, except?: string): void;
}

const keyOf = (token: string) => createHash('sha256').update(token).digest('base64url');

export function createSessions({ lockAfterMinutes, now = Date.now }: SessionOptions): Sessions {
  const entries = new Map<string, Entry>();
  /** A clock that was set back counts as over: nothing is kept open by it. */
  const isOver = (since: number, ms: number) => now() - since >= ms || now() < since;

  function makeRoom(account: string): void {
    const own = [...entries].filter(([, entry]) => entry.account === account);
    for (const [key] of own.slice(0, Math.max(0, own.length - mostOfAccount + 1))) entries.delete(key);
  }

  return {
    open(account, channel) {
      makeRoom(account);
      const token = randomBytes(32).toString('base64url');
      const at = now();
      entries.set(keyOf(token), { account, channel, startedAt: at, lastActiveAt: at, isLocked: false });
      return token;
    },
    find(token, channel) {
      const key = keyOf(token);
      const entry = entries.get(key);
      if (entry === undefined || entry.channel !== channel) return null;
      if (isOver(entry.startedAt, longestMs)) {
        entries.delete(key);
        return null;
      }
      if (isOver(entry.lastActiveAt, lockAfterMinutes() * 60_000)) entry.isLocked = true;
      return entry;
    },
    touch(token) {
      const entry = entries.get(keyOf(token));
      if (entry !== undefined && !entry.isLocked) entry.lastActiveAt = now();
    },
    lock(token) {
      const entry = entries.get(keyOf(token));
      if (entry !== undefined) entry.isLocked = true;
    },
    unlock(token) {
      const entry = entries.get(keyOf(token));
      if (entry !== undefined) Object.assign(entry, { isLocked: false, lastActiveAt: now() });
    },
    close: (token) => void entries.delete(keyOf(token)),
    closeAllOf(account, except) {
      const kept = except === undefined ? null : keyOf(except);
      for (const [key, entry] of entries) if (entry.account === account && key !== kept) entries.delete(key);
    },
  };
}
