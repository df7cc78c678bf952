/**
 * Where the sites stand, as their own statements say, and what is wrong with that: a site that went back in time, two
 * computers with the keys of one site, clocks that differ. And whether this coordinator went back itself.
 */
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { markRestored, restoredNote } from '../store/restored.ts';
import type { Store } from '../store/store.ts';
import type { MessageOrder } from '../transport/message-order.ts';
import {
  type ClockDifference,
  type CoordinatorStandingBody,
  mostShown,
  type SiteStandingBody,
} from '../transport/messages.ts';
import type { OwnPosition } from '../transport/own-position.ts';
import { type SignedPosition, signedPositionSchema } from '../transport/position.ts';
import { createClockBook, type WrongClock } from './site-clocks.ts';
import { createTwinWatch } from './site-twins.ts';

/** What a message of a site says of its place. */
export interface Standing {
  id: string;
  order: MessageOrder | null;
  position: SignedPosition | null;
}

export interface SiteConcerns {
  /** Sentences for people: what is wrong with where this site stands, and what to do. */
  concerns: string[];
  clock: ClockDifference | null;
}

export interface CoordinatorStanding {
  /** Whether a message counts: not from an earlier life of the site's store, nor from a second computer with its keys. */
  takes(siteId: string, type: string, message: Standing): boolean;
  /** Takes down what a hello says. @returns what the welcome answers */
  greet(
    siteId: string,
    message: Standing & { isNew: boolean; receivedAt: Date },
    body: SiteStandingBody | null,
  ): CoordinatorStandingBody;
  concernsOf(siteId: string): SiteConcerns;
  /** The clock of this computer, where those of most sites agree that it is wrong; null else. */
  ownClock(): WrongClock | null;
}

export interface CoordinatorStandingOptions {
  store: Store;
  own: OwnPosition;
  logger: Logger;
  /** This coordinator went back in time: its sites hear anew where it stands. */
  onReturned(): void;
  /** Something that people see has changed. */
  onChange(): void;
}

/** What a site that has stopped, or that is another computer, still says. */
const ofAStoppedSite: ReadonlySet<string> = new Set(['hello', 'declined', 'withdrawn']);

export function createCoordinatorStanding(options: CoordinatorStandingOptions): CoordinatorStanding {
  const { store, own, logger } = options;
  const { peers } = store;
  const twins = createTwinWatch();
  const clocks = createClockBook();
  /** Sites whose last hello said that nobody has confirmed their restored store yet. */
  const restored = new Set<string>();

  const shownTo = (siteId: string): SignedPosition[] =>
    peers
      .statements(siteId, mostShown)
      .flatMap((statement) => signedPositionSchema.safeParse(statement).data ?? []);

  /** A statement of another life than the one that counts brings that in only by a hello, which says whether it may. */
  function note(siteId: string, { order, position }: Standing, hello: SiteStandingBody | null): void {
    if (order === null || position === null) return;
    const known = peers.epoch(siteId, order.epoch);
    const current = peers.current(siteId);
    const isCurrent = current === null || current.epoch === order.epoch;
    if (known?.status === 'past' || (!isCurrent && hello === null)) return;
    if (known === null && !peers.hasRoom(siteId)) return;
    const status = isCurrent || hello?.restored === false ? 'current' : 'pending';
    const { instance, counter, trail } = position.position;
    store.transaction(() => {
      if (status === 'current' && !isCurrent) peers.forgetTrails(siteId);
      peers.note(siteId, order, status);
      // What a site says that has lost rows must not take the place of what it said before it lost them.
      if (status === 'pending' || hello?.restored === true) return;
      peers.keepStatement(siteId, instance, counter, position);
      peers.keepTrail(siteId, trail);
    });
  }

  /** Whether a site says less than it did before: it has lost what it said in between. */
  function isBehind(siteId: string, { order, position }: Standing): boolean {
    const known = order === null ? null : peers.epoch(siteId, order.epoch);
    if (known?.status !== 'current' || position === null) return false;
    return order!.counter <= known.counter;
  }

  function wentBack(shown: SignedPosition): void {
    const { run, counter } = shown.position;
    logger.warn({ run, counter }, 'this coordinator went back in time, as a site could show');
    markRestored(store, 'copy', { missing: null, since: null }, () => own.renew());
    options.onReturned();
  }

  function compareClocks(siteId: string, clock: ClockDifference | null): void {
    if (clocks.note(siteId, clock)) options.onChange();
  }

  return {
    takes(siteId, type, message) {
      if (message.order === null) return true;
      const known = peers.epoch(siteId, message.order.epoch);
      if (type === 'hello') return true;
      // Counts of a state are the same whenever they come.
      if (known?.status === 'past') return type === 'withdrawn' || type === 'evaluation';
      if (known?.status === 'pending') return ofAStoppedSite.has(type);
      const instance = message.position?.position.instance;
      if (instance !== undefined && twins.isKeptOut(siteId, instance)) return ofAStoppedSite.has(type);
      note(siteId, message, null);
      return true;
    },
    greet(siteId, message, body) {
      const { position, id, receivedAt, isNew } = message;
      const yours = shownTo(siteId);
      if (body === null || position === null) {
        // It learns that this coordinator knows of places, and says its own from then on.
        return {
          yours,
          trails: [],
          twin: 'none',
          helloId: id,
          at: receivedAt.toISOString(),
          wrongClock: 'unknown',
        };
      }
      const lost = own.lost(body.yours);
      if (lost !== null) wentBack(lost);
      const { instance } = position.position;
      const twin = isNew ? twins.see(siteId, instance) : twins.stateOf(siteId, instance);
      const behind = isBehind(siteId, message);
      if (isNew && twin !== 'wait') {
        if (!behind) note(siteId, message, body);
        compareClocks(siteId, body.clock);
        if (restored.has(siteId) !== body.restored) {
          if (body.restored) restored.add(siteId);
          else restored.delete(siteId);
          options.onChange();
        }
      }
      if (twins.changed()) options.onChange();
      const isBack =
        behind || body.restored || yours.every((one) => one.position.epoch !== position.position.epoch);
      const trails = isBack ? peers.trails(siteId) : [];
      const wrongClock = clocks.verdictOn(siteId);
      return { yours, trails, twin, helloId: id, at: receivedAt.toISOString(), wrongClock };
    },
    concernsOf(siteId) {
      const concerns = [];
      if (twins.has(siteId)) concerns.push(twinSentence);
      if (restored.has(siteId)) concerns.push(restoredSentence);
      const clock = clocks.sentenceOn(siteId);
      if (clock !== null) concerns.push(clock);
      return { concerns, clock: clocks.of(siteId) };
    },
    ownClock: () => clocks.own(),
  };
}

/** For a day people at the coordinator read that its store went back; the sites and the run need nobody. */
const saidForMs = 24 * 3_600_000;

export function restoredConcern(store: Store): AppError | null {
  const note = restoredNote(store);
  if (note === null || Date.parse(store.now()) - Date.parse(note.noticedAt) > saidForMs) return null;
  return new AppError(
    'COORDINATOR_RESTORED',
    'The data of this coordinator is older than what it has said before: it was restored from an earlier state. The sites deliver again what it has lost, and the run goes on.',
    { action: 'Check that all sites are listed; one that joined after that state has to be invited again.' },
  );
}

const twinSentence =
  'Two computers use the keys of this site at the same time, so somebody has copied its data folder. The one that was here first counts, the other one waits. Ask the site to stop the second one; if nobody there knows of it, remove the site and invite it anew.';
const restoredSentence =
  'The data folder of this site was restored from an earlier state. It takes part in nothing until a person there has compared the consents and confirmed it.';
