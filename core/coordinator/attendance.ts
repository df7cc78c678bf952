/** Whom a round waits for: derived again after a restart from who is online, who was drawn and who has begun. */
import type { RoundRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { substitutesOf } from '../strategy/participation.ts';
import type { RunPorts } from './ports.ts';
import type { RunLedger } from './run-ledger.ts';

export interface AttendanceOptions {
  ledger: RunLedger;
  store: Store;
  ports: RunPorts;
  /** How long a site that lost its connection may hold up a round. */
  offlineGraceMs: number;
}

export interface Attendance {
  /** The sites that are online now, and nobody else, belong to what comes next. */
  begin(): void;
  add(siteIds: Iterable<string>): void;
  remove(siteId: string): void;
  /** Sites that were here when the round began or came since. */
  sites(): Iterable<string>;
  mayClose(record: RoundRecord): boolean;
  /** Sites whose counts for a state may still come. */
  awaitedEvaluations(stateSha256: string): string[];
  /**
   * Draws further sites when so many of a round's participants went away or were refused that those who are left
   * cannot reach the quorum.
   * @returns whether there are some; they are in the store then
   */
  drawSubstitutes(record: RoundRecord): boolean;
}

export function createAttendance({ ledger, store, ports, offlineGraceMs }: AttendanceOptions): Attendance {
  const { runId, config } = ledger;
  let expected = new Set<string>();

  const isWaitedFor = (siteId: string) => ports.offlineForMs(siteId) < offlineGraceMs;
  const receivedIn = (round: number) =>
    ledger.sitesOf(round).filter((row) => row.status === 'received').length;

  /** Sites that train in this round and may still deliver. */
  function awaitedUpdates(round: number): string[] {
    const settled = new Set(
      ledger
        .sitesOf(round)
        .filter(({ status }) => status !== 'working' && status !== 'announced')
        .map((row) => row.siteId),
    );
    return [...expected].filter(
      (siteId) => ledger.trains(siteId, round) && !settled.has(siteId) && isWaitedFor(siteId),
    );
  }

  function awaitedEvaluations(stateSha256: string): string[] {
    const reported = new Set(store.evaluations.ofState(runId, stateSha256).map((row) => row.siteId));
    return [...expected].filter((siteId) => !reported.has(siteId) && isWaitedFor(siteId));
  }

  return {
    awaitedEvaluations,
    begin() {
      expected = new Set(ports.onlineSites());
    },
    add(siteIds) {
      for (const siteId of siteIds) expected.add(siteId);
    },
    remove: (siteId) => expected.delete(siteId),
    sites: () => expected,
    mayClose({ round, deadlineAt, startSha256 }) {
      if (receivedIn(round) < config.quorum) return false;
      if (deadlineAt !== null && Date.now() >= Date.parse(deadlineAt)) return true;
      if (awaitedUpdates(round).length > 0) return false;
      // A site that trains has evaluated before. One that was not drawn only evaluates, unless it declined that.
      const isDone = (siteId: string) =>
        ledger.trains(siteId, round) || store.roundSites.get(runId, round, siteId)?.status === 'absent';
      return awaitedEvaluations(startSha256).every(isDone);
    },
    drawSubstitutes({ round, participants }) {
      if (participants === null) return false;
      const count = config.quorum - receivedIn(round) - awaitedUpdates(round).length;
      const others = ports.onlineSites().filter((siteId) => !participants.includes(siteId));
      if (count <= 0 || others.length === 0) return false;
      const drawn = substitutesOf(config, round, others, { count, drawnBefore: participants.length });
      store.transaction(() => {
        store.rounds.update(runId, round, { participants: [...participants, ...drawn].sort() });
        store.audit.append({
          actor: 'coordinator',
          action: 'participants-added',
          details: { runId, round, sites: drawn },
        });
      });
      for (const siteId of drawn) expected.add(siteId);
      return true;
    },
  };
}
