/** An update that was announced in time is not thrown away because the coordinator, or anybody else, was away for a while. */
import type { Evidence, Violation } from './evidence.ts';

/** A site that is away for longer may be done without. */
const awayMs = 10_000;

/** Figures beside the violations. */
export interface Arrivals {
  /** Updates that a coordinator began to fetch for rounds that have closed. */
  announced: number;
  counted: number;
}

export function lostUpdates(evidence: Evidence, arrivals: Arrivals): Violation[] {
  const { store } = evidence.coordinator;
  const { sites, runIds } = evidence;
  const found: Violation[] = [];
  for (const runId of runIds)
    for (const { round, closedAt, deadlineAt } of store.rounds.listOfRun(runId)) {
      if (closedAt === null) continue;
      const rows = store.roundSites.list(runId, round);
      for (const site of sites) {
        const came = store.updateArrivals
          .listOfRun(runId)
          .filter((one) => one.round === round && one.siteId === site.siteId);
        const row = rows.find(({ siteId }) => siteId === site.siteId);
        if (came.length === 0) continue;
        arrivals.announced++;
        if (row?.status === 'received') arrivals.counted++;
        const newest = came.at(-1)!;
        if (row?.status !== 'absent' || row.updateSha256 !== newest.sha256) continue;
        // As the promise says: one that comes later counts if the round is still open then.
        if (deadlineAt !== null && newest.createdAt > deadlineAt) continue;
        if (wasAway(evidence, site.member, Date.parse(newest.createdAt), Date.parse(closedAt))) continue;
        found.push({
          invariant: 'no update lost',
          what: `run ${runId}, round ${round}: ${site.member} had announced its update and was here, and the round closed without it`,
        });
      }
    }
  return found;
}

/** Anything that may have kept the site away, or made it take its update back, in this time or shortly before. */
function wasAway({ inflicted, waits }: Evidence, member: string, from: number, to: number): boolean {
  const faults = inflicted.flatMap(({ fault, ...when }) =>
    'member' in fault ? [{ member: fault.member as string, ...when }] : [],
  );
  return [...faults, ...waits].some(
    (one) => one.member === member && one.endedAt > from - awayMs && one.beganAt < to,
  );
}
