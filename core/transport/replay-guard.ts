/**
 * Finds replays. A sender that gives its messages places is judged by these alone, so that no clock matters; one that does
 * not (version 0.1), by the time that its messages say, a day more or less, because clocks differ.
 */
import type { Peers } from '../store/position-tables.ts';
import { isLater, type MessageOrder } from './message-order.ts';

const dayMs = 24 * 3_600_000;
/** Numbers that a message may lag behind the newest one of its sender: a site says hello 2,880 times a day. */
const mostBehind = 10_000;

/** Whether a message is young enough, and not from the future. A day each by default: clocks of sites differ. */
export function isFresh(
  at: Date,
  options: { now?: Date; maxAgeMs?: number; maxAheadMs?: number } = {},
): boolean {
  const ageMs = (options.now ?? new Date()).getTime() - at.getTime();
  return ageMs <= (options.maxAgeMs ?? dayMs) && -ageMs <= (options.maxAheadMs ?? dayMs);
}

/** What of an envelope tells whether it came before. */
export interface Placed {
  sender: string;
  id: string;
  at: Date;
  order?: MessageOrder | null;
}

export interface ReplayGuard {
  /** True the first time only, and only while it is not too old. */
  accept(envelope: Placed): boolean;
  /** Of what was accepted and could not be dealt with: it is accepted once more when it comes again. */
  forget(envelope: Pick<Placed, 'sender' | 'id'>): void;
}

export interface ReplayGuardOptions {
  maxAgeMs?: number;
  maxEntries?: number;
  /** What is known of the senders; without it every place is new. */
  peers?: Pick<Peers, 'current' | 'epoch'> | undefined;
}

/**
 * In memory: for messages that matter for minutes, such as requests for chunks. Messages that change the store may be
 * repeated without harm. Remembers twice `maxEntries` at most; beyond that the oldest go.
 */
export function createReplayGuard(options: ReplayGuardOptions = {}): ReplayGuard {
  const { maxAgeMs = dayMs, maxEntries = 20_000, peers } = options;
  let newer = new Set<string>();
  let older = new Set<string>();
  const keyOf = (envelope: Pick<Placed, 'sender' | 'id'>) => `${envelope.sender} ${envelope.id}`;

  function isRecent({ sender, at, order = null }: Placed): boolean {
    // Who has given places gives them for good: an old message without one is a replay from before.
    if (order === null) return (peers?.current(sender) ?? null) === null && isFresh(at, { maxAgeMs });
    const known = peers?.epoch(sender, order.epoch) ?? null;
    return known === null || (known.status !== 'past' && order.counter >= known.counter - mostBehind);
  }

  return {
    accept(envelope) {
      if (!isRecent(envelope)) return false;
      const key = keyOf(envelope);
      if (newer.has(key) || older.has(key)) return false;
      newer.add(key);
      if (newer.size >= maxEntries) {
        older = newer;
        newer = new Set();
      }
      return true;
    },
    forget(envelope) {
      newer.delete(keyOf(envelope));
      older.delete(keyOf(envelope));
    },
  };
}

/**
 * The newest place heard of each sender, in memory: whether a message says how things are now. One from before another life
 * of its sender's store, or with no place where its sender gives places, does not.
 */
export function createNewestHeard(peers: Pick<Peers, 'current' | 'epoch'>) {
  const newest = new Map<string, MessageOrder>();
  return {
    /** Whether it is the newest of its sender so far; remembers it. */
    isNewest({ sender, order = null }: Pick<Placed, 'sender' | 'order'>): boolean {
      if (order === null) return peers.current(sender) === null;
      const known = peers.epoch(sender, order.epoch);
      if (known?.status === 'past') return false;
      const before = newest.get(sender);
      // What was heard before this process began may be said again by somebody else now.
      const isLate =
        before?.epoch === order.epoch ? !isLater(order, before) : order.counter <= (known?.counter ?? -1);
      if (isLate) return false;
      newest.set(sender, order);
      return true;
    },
  };
}
