/** All rounds, one after the other, and each update counted once. */
import { z } from 'zod';
import { announcedBy, type Evidence, type Violation } from './evidence.ts';

/** Every run that was begun has come to its end, with every round. */
export function allRounds(evidence: Evidence): Violation[] {
  const { store } = evidence.coordinator;
  const { runIds, rounds, quorum } = evidence;
  const found: Violation[] = [];
  const violated = (what: string) => found.push({ invariant: 'all rounds', what });
  for (const runId of runIds) {
    const run = store.runs.get(runId);
    if (run === null) {
      if (!isUndone(evidence, runId)) violated(`run ${runId} is gone`);
      continue;
    }
    if (run.status !== 'finished')
      violated(
        `run ${runId} is ${run.status} in round ${run.round}${run.failure ? `: ${run.failure.code}` : ''}`,
      );
    const records = store.rounds.listOfRun(runId);
    const closed = records.filter(({ status }) => status === 'closed').length;
    if (closed !== rounds) violated(`run ${runId} has closed ${closed} of ${rounds} rounds`);
    for (const [index, { round, startSha256, status, contributors }] of records.entries()) {
      if (round !== index) violated(`run ${runId}: round ${index} is missing`);
      if (index > 0 && startSha256 !== records[index - 1]!.resultSha256)
        violated(`run ${runId}: round ${round} does not start from the result of the one before`);
      if (status === 'closed' && (contributors ?? 0) < quorum)
        violated(`run ${runId}: round ${round} closed with ${contributors} contributors, below the quorum`);
    }
  }
  return found;
}

/** A run that began after the coordinator's copy was made that was put back later is in no other place. */
const isUndone = ({ restores, seenAt }: Evidence, runId: string): boolean =>
  restores.some(
    ({ member, copiedAt, restoredAt }) =>
      member === 'coordinator' &&
      (seenAt.get(runId) ?? 0) > copiedAt &&
      (seenAt.get(runId) ?? 0) < restoredAt,
  );

const closedDetails = z.object({ runId: z.string(), round: z.int(), sites: z.array(z.string()) });
const askedDetails = z.object({ runId: z.string(), round: z.int(), site: z.string(), update: z.string() });
const updateDetails = z.object({ runId: z.string(), round: z.int(), update: z.string() });

/** How the rounds of a run went, for whoever looks for the cause. */
export function timelineOf({ coordinator: { store } }: Evidence, runId: string): string[] {
  const at = (time: string | null) => time?.slice(11, 23) ?? '…';
  return store.rounds.listOfRun(runId).map(({ round, status, openedAt, closedAt, deadlineAt }) => {
    const rows = store.roundSites.list(runId, round);
    const sites = rows.map(
      ({ siteId, status: of, reason }) => `${siteId} ${of}${reason === null ? '' : ` (${reason})`}`,
    );
    return `round ${round} ${status} ${at(openedAt)} to ${at(closedAt)}, until ${at(deadlineAt)}: ${sites.join(', ')}`;
  });
}

/** What was received, what the trail says, and what went into each result are the same, once for each site. */
export function countedOnce({ coordinator: { store }, sites, runIds, restored }: Evidence): Violation[] {
  const found: Violation[] = [];
  const violated = (what: string) => found.push({ invariant: 'no double counting', what });
  const runs = new Set(runIds);
  const received = new Map<string, number>();
  const closed = new Map<string, string[]>();
  for (const { action, actor, details } of store.audit.raw()) {
    if (action === 'update-received') {
      const { runId, round, update } = updateDetails.parse(JSON.parse(details));
      const key = `${runId} ${round} ${actor} ${update}`;
      received.set(key, (received.get(key) ?? 0) + 1);
    } else if (action === 'update-asked-again') {
      // Its file was damaged here: it counts when it is here again.
      const { runId, round, site, update } = askedDetails.parse(JSON.parse(details));
      received.set(`${runId} ${round} ${site} ${update}`, 0);
    } else if (action === 'round-closed') {
      const said = closedDetails.parse(JSON.parse(details));
      const key = `${said.runId} ${said.round}`;
      if (closed.has(key)) violated(`round ${key} closed twice`);
      closed.set(key, said.sites);
    }
  }
  for (const [key, times] of received) if (times > 1) violated(`update ${key} was received ${times} times`);
  for (const runId of runs)
    for (const { round, status, contributors } of store.rounds.listOfRun(runId)) {
      if (status !== 'closed') continue;
      const counted = store.roundSites.list(runId, round).filter((row) => row.status === 'received');
      const named = closed.get(`${runId} ${round}`) ?? [];
      const ids = counted.map(({ siteId }) => siteId).sort();
      if (ids.join() !== [...named].sort().join() || new Set(named).size !== named.length)
        violated(`run ${runId}, round ${round}: rows and trail name other contributors`);
      if (contributors !== counted.length)
        violated(`run ${runId}, round ${round}: ${contributors} contributors, ${counted.length} updates`);
      for (const { siteId, updateSha256 } of counted) {
        if (!received.has(`${runId} ${round} ${siteId} ${updateSha256}`))
          violated(`run ${runId}, round ${round}: the trail does not know the update of ${siteId}`);
        const site = sites.find((one) => one.siteId === siteId)!;
        const own = announcedBy(site, runId);
        if (
          !restored.has(site.member) &&
          !own.some((one) => one.round === round && one.updateSha256 === updateSha256)
        )
          violated(
            `run ${runId}, round ${round}: ${site.member} never announced the update that was counted`,
          );
      }
    }
  return found;
}
