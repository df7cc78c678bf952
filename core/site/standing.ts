/**
 * Where this site and its coordinator stand: what the exchange of hello and welcome says, and what is wrong with it. A site
 * whose store went back in time announces nothing, until a person has confirmed it.
 */
import { z } from 'zod';
import { aboutHowLong } from '../shared/clock-words.ts';
import { AppError, type ErrorReport } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { markRestored, noteMissing, restoredNote } from '../store/restored.ts';
import type { Store } from '../store/store.ts';
import { isLater, type MessageOrder, orderSchema } from '../transport/message-order.ts';
import {
  type ClockDifference,
  type CoordinatorStandingBody,
  isClockWrong,
  maxClockMs,
  mostShown,
  type SiteStandingBody,
} from '../transport/messages.ts';
import type { OwnPosition, Stamp } from '../transport/own-position.ts';
import { type SignedPosition, signedPositionSchema } from '../transport/position.ts';
import { coordinatorId } from '../transport/topics.ts';

/** What a message of the coordinator says of its place. */
interface Placed {
  order: MessageOrder | null;
  position: SignedPosition | null;
}

export interface SiteStanding {
  /** Places for this site's messages; undefined for a coordinator that knows of none. */
  stamp(): Stamp | undefined;
  hint(): Stamp | undefined;
  /** What a hello says, and when it left. */
  hello(messageId: string): SiteStandingBody | null;
  /** @returns whether the coordinator should hear from this site at once, because there is something new to say */
  welcome(body: CoordinatorStandingBody | null, message: Placed): boolean;
  /** Whether a message of the coordinator counts: not one of an earlier life of its store, nor one without a place where it gives places. */
  takes(message: Placed): boolean;
  /** How the manifest in a message stands to the newest one. `returned`: the coordinator's store went back in time. */
  manifest(message: Placed & { at: Date }): 'older' | 'newest' | 'returned';
  /** Whether a manifest told that the coordinator went back, and nothing was done about it yet: also by a process before this one. */
  isReturnOpen(): boolean;
  returnTaken(): void;
  /** Whether what tells of rounds may leave: it waits until the coordinator has answered, and while this store has lost something. */
  mayAnnounce(): boolean;
  /** Sentences for people, the most pressing first. */
  concerns(): ErrorReport[];
  readonly clock: ClockDifference | null;
}

export interface SiteStandingOptions {
  store: Store;
  own: OwnPosition;
  logger: Logger;
  /** This site's store went back in time. */
  onRestored(): void;
  /** Another computer uses its keys; `wait`: and this one is the second. */
  onTwin(twin: 'other' | 'wait'): void;
  /** Something that people see has changed. */
  onChange(): void;
  /** Monotonic (ms). */
  now?: () => number;
  /** The clock of this computer. */
  clock?: () => Date;
}

const manifestOrderKey = 'site.manifest-order';
/** Of coordinators that give no places. */
const manifestTimeKey = 'site.manifest-at';
/** There while {@link SiteStanding.isReturnOpen}. */
const returnKey = 'site.manifest-return';
const timeSchema = z.iso.datetime();

export function createSiteStanding(options: SiteStandingOptions): SiteStanding {
  const { store, own, logger, now = () => performance.now(), clock: wallClock = () => new Date() } = options;
  const { peers } = store;
  /** Hellos that may still be answered, by id: when they left. */
  const asked = new Map<string, number>();
  let answered = false;
  let clock: ClockDifference | null = null;
  let wrongClock: CoordinatorStandingBody['wrongClock'] = 'unknown';
  let twin: CoordinatorStandingBody['twin'] = 'none';
  let returnedAt: number | null = null;

  const speaks = () => peers.current(coordinatorId) !== null;

  function takes({ order }: Placed): boolean {
    if (order === null) return !speaks();
    return peers.epoch(coordinatorId, order.epoch)?.status !== 'past';
  }

  /** Takes down where the coordinator stands. @returns whether this is another life of its store than the one known */
  function note({ order, position }: Placed): boolean {
    if (order === null) return false;
    const current = peers.current(coordinatorId);
    const isOther = current !== null && current.epoch !== order.epoch;
    if (isOther && !peers.hasRoom(coordinatorId)) return false;
    store.transaction(() => {
      peers.note(coordinatorId, order, 'current');
      if (position !== null) {
        const { instance, counter } = position.position;
        peers.keepStatement(coordinatorId, instance, counter, position);
      }
      if (isOther) {
        const details = {
          run: position?.position.run?.id ?? null,
          round: position?.position.run?.round ?? null,
        };
        store.audit.append({ actor: 'coordinator', action: 'coordinator-went-back', details });
      }
    });
    if (isOther) {
      returnedAt = now();
      logger.warn({ ...order }, 'the coordinator went back in time');
    }
    return isOther;
  }

  /** What of the trail that the coordinator remembers is not here: a lower bound, and until when it certainly is whole. */
  function missingOf(shown: readonly SignedPosition[], trails: readonly string[]) {
    const heads = own
      .openTrails([...shown.map(({ position }) => position.trail), ...trails])
      .sort((a, b) => b.rows - a.rows);
    const rowAt = (seq: number) => store.audit.page({ beforeSeq: seq + 1, limit: 1 })[0];
    const [most] = heads;
    if (most === undefined) return { missing: null, since: null };
    const shared = heads.find(({ rows, head }) => rows > 0 && isRow(rowAt(rows), rows, head));
    const whole = shared !== undefined && shared.rows === most.rows;
    const here = rowAt(Number.MAX_SAFE_INTEGER - 1)?.seq ?? 0;
    const missing = whole ? 0 : Math.max(1, most.rows - here);
    return { missing, since: shared === undefined ? null : rowAt(shared.rows)!.at };
  }

  const isRow = (row: { seq: number; hash: string } | undefined, rows: number, head: string) =>
    row?.seq === rows && row.hash === head;

  function look({ yours, trails }: CoordinatorStandingBody): void {
    const lost = own.lost(yours);
    const note = restoredNote(store);
    if (lost === null && note === null) return;
    const found = missingOf(yours, trails);
    if (lost === null) {
      // What is written here meanwhile makes the trail longer again, and tells nothing of what is missing.
      const most = Math.max(note?.missing ?? 0, found.missing ?? 0);
      if (note !== null && (note.missing === null || note.since === null) && found.missing !== null)
        noteMissing(store, { missing: most, since: found.since ?? note.since });
      return;
    }
    logger.warn({ ...found }, 'this site went back in time');
    markRestored(store, 'copy', found, () => own.renew());
    options.onRestored();
  }

  function measure({ helloId, at }: CoordinatorStandingBody): boolean {
    const leftAt = asked.get(helloId);
    if (leftAt === undefined) return false;
    asked.delete(helloId);
    const tookMs = Math.max(0, now() - leftAt);
    const aheadMs = Math.round(wallClock().getTime() - tookMs / 2 - Date.parse(at));
    const before = clock;
    const bounded = Math.min(maxClockMs, Math.max(-maxClockMs, aheadMs));
    clock = { aheadMs: bounded, withinMs: Math.min(maxClockMs, Math.ceil(tookMs / 2)) };
    return before === null || isClockWrong(before) !== isClockWrong(clock);
  }

  return {
    stamp: () => (speaks() ? own.stamp() : undefined),
    hint: () => (speaks() ? own.hint() : undefined),
    takes,
    hello(messageId) {
      asked.set(messageId, now());
      for (const oldest of asked.keys()) {
        if (asked.size <= 8) break;
        asked.delete(oldest);
      }
      if (!speaks()) return null;
      const yours = peers
        .statements(coordinatorId, mostShown)
        .flatMap((statement) => signedPositionSchema.safeParse(statement).data ?? []);
      return { yours, restored: restoredNote(store) !== null, clock };
    },
    welcome(body, message) {
      if (body === null || message.order === null) return false;
      const isFirst = !speaks();
      note(message);
      // To another process with this site's keys, or to a hello that is long forgotten: it says nothing of this one.
      if (!asked.has(body.helloId)) return isFirst;
      const isMeasured = measure(body);
      const before = twin;
      ({ twin, wrongClock } = body);
      if (twin === 'none') look(body);
      else if (before !== twin) options.onTwin(twin);
      answered = !isFirst;
      options.onChange();
      return isFirst || isMeasured;
    },
    manifest(message) {
      const { order, at } = message;
      if (!takes(message)) return 'older';
      if (order === null) {
        const newest = store.settings.get(manifestTimeKey, timeSchema);
        if (newest !== null && at.toISOString() < newest) return 'older';
        store.settings.set(manifestTimeKey, at.toISOString());
        return 'newest';
      }
      const newest = store.settings.get(manifestOrderKey, orderSchema);
      if (newest?.epoch === order.epoch && isLater(newest, order)) return 'older';
      return store.transaction(() => {
        const isReturn = note(message) || (newest !== null && newest.epoch !== order.epoch);
        store.settings.set(manifestOrderKey, order);
        // The manifest may have to be fetched first, and this process may end before: the next one knows by this.
        if (isReturn) store.settings.set(returnKey, true);
        return isReturn ? 'returned' : 'newest';
      });
    },
    isReturnOpen: () => store.settings.has(returnKey),
    returnTaken: () => store.settings.remove(returnKey),
    mayAnnounce: () => (answered || !speaks()) && restoredNote(store) === null && twin !== 'wait',
    concerns() {
      const said: AppError[] = [];
      if (twin !== 'none') said.push(twinProblem(twin));
      if (returnedAt !== null && now() - returnedAt < saidForMs) said.push(returnedProblem());
      if (clock !== null && isClockWrong(clock)) said.push(clockProblem(clock, wrongClock));
      return said.map((error) => error.toReport());
    },
    get clock() {
      return clock;
    },
  };
}

/** So long after a coordinator went back people hear of it. */
const saidForMs = 24 * 3_600_000;

function twinProblem(twin: 'other' | 'wait'): AppError {
  const here =
    twin === 'wait'
      ? 'This one started later, so it waits and takes part in nothing.'
      : 'This one was there first, so it goes on, and the other one waits.';
  return new AppError(
    'SITE_CLONED',
    `Two computers use the keys of this site at the same time: its data folder was copied. ${here}`,
  );
}

const returnedProblem = () =>
  new AppError(
    'COORDINATOR_RESTORED',
    'The coordinator went back to an earlier state, as after a restored backup. This site delivers again what the coordinator has lost.',
  );

function clockProblem({ aheadMs }: ClockDifference, wrong: CoordinatorStandingBody['wrongClock']): AppError {
  const differs = `The clock of this computer is ${aboutHowLong(aheadMs)} ${aheadMs > 0 ? 'ahead of' : 'behind'} the coordinator's.`;
  if (wrong === 'site')
    return new AppError('CLOCK_DIFFERS', `${differs} Other sites agree with the coordinator.`);
  if (wrong === 'coordinator')
    return new AppError(
      'CLOCK_DIFFERS',
      `${differs} Other sites differ in the same way, so it is the coordinator's that is wrong.`,
      {
        action: 'Leave the clock here as it is, and tell the coordinator.',
      },
    );
  return new AppError('CLOCK_DIFFERS', differs);
}
