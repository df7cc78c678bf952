/** One episode: a schedule of faults against a federation that works, then quiet, in which the run has to come to its end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Mishap, residentBytes } from './agent.ts';
import type { Inflicted } from './checks/evidence.ts';
import { everybodyConsents } from './faults/consents.ts';
import { inflict, type World } from './faults/index.ts';
import { persist } from './federation.ts';
import { doWhatIsAdvised, whileWatching } from './person.ts';
import type { Fault } from './schedule.ts';

/** When each run was first seen, ms since the epoch; oldest first. */
type Runs = Map<string, number>;

export interface EpisodeOutcome {
  /** Runs that began, oldest first. */
  runIds: string[];
  /** When each was first seen, ms since the epoch. */
  seenAt: Runs;
  inflicted: Inflicted[];
  /** Faults that could not be taken back. */
  mishaps: Mishap[];
  /** From the end of the last fault to the end of the run, ms; null when it did not end. */
  settledMs: number | null;
  /** What it waited for last, in words. */
  waitsFor: string;
}

export interface EpisodeOptions {
  faults: readonly Fault[];
  /** Runs go on being started for so long. */
  lengthMs: number;
  /** How long the last run may take when all is well again. */
  settleMs: number;
  /** Ends the waiting; what is inflicted is still taken back. */
  signal: AbortSignal;
  /** Largest resident size of each process so far. */
  resident: Map<string, number>;
}

const isOver = (status: string) => status === 'finished' || status === 'stopped' || status === 'failed';
const pollMs = 250;
const sampleMs = 2_000;

export async function playEpisode(world: World, options: EpisodeOptions): Promise<EpisodeOutcome> {
  const { faults, lengthMs, settleMs, signal, resident } = options;
  const startedAt = Date.now();
  const inflicted: Inflicted[] = [];
  const mishaps: Mishap[] = [];
  const runIds = new Map<string, number>();
  const over = new AbortController();
  const sampling = setInterval(() => sampleMemory(world, resident), sampleMs);
  try {
    await beginRun(world, runIds);
    const watching = whileWatching(world, AbortSignal.any([signal, over.signal]));
    const all = faults.map(async (fault) => {
      await sleep(fault.atMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const beganAt = Date.now();
      try {
        await inflict(world, fault);
      } catch (error) {
        // Such as an agent that does not start any more.
        mishaps.push({
          member: 'member' in fault ? fault.member : 'coordinator',
          what: `${fault.kind}: ${error}`,
        });
      }
      inflicted.push({ fault, beganAt, endedAt: Date.now() });
    });
    const faultsOver = Promise.all(all);
    let isQuiet = false;
    const quiet = faultsOver.finally(() => {
      isQuiet = true;
    });
    quiet.catch(() => {});
    const isBusy = () => runIds.size === 0 || Date.now() - startedAt < lengthMs;
    while ((!isQuiet || runIds.size === 0) && !signal.aborted) {
      if (isBusy()) await beginRun(world, runIds);
      await Promise.race([quiet, sleep(pollMs)]);
    }
    await quiet;
    over.abort();
    await watching;
    const settled = await settle(world, runIds, settleMs, signal);
    return { runIds: [...runIds.keys()], seenAt: runIds, inflicted, mishaps, ...settled };
  } finally {
    over.abort();
    clearInterval(sampling);
  }
}

/** Starts a run if none is in progress, and learns which it is. */
async function beginRun({ federation }: World, runIds: Runs): Promise<void> {
  try {
    const current = await federation.currentRun();
    if (current !== null && !isOver(current.status)) return see(runIds, current);
    await federation.startRun();
    const started = await federation.currentRun();
    if (started !== null) see(runIds, started);
  } catch {} // The coordinator is down, frozen, or has been asked already.
}

const see = (runs: Runs, { id }: { id: string }) => void (runs.has(id) || runs.set(id, Date.now()));

async function settle(
  world: World,
  runIds: Runs,
  settleMs: number,
  signal: AbortSignal,
): Promise<Pick<EpisodeOutcome, 'settledMs' | 'waitsFor'>> {
  const { federation } = world;
  const startedAt = Date.now();
  for (const { proxy } of federation.sites) proxy.set({});
  await federation.startAll();
  await doWhatIsAdvised(world);
  await everybodyConsents(world);
  let waitsFor = '';
  while (Date.now() - startedAt < settleMs && !signal.aborted) {
    const current = await persist(() => federation.currentRun(), pollMs);
    if (current !== null) see(runIds, current);
    // A site that was away, or waits for a person, comes back although the run may have ended without it.
    const waiting = await doWhatIsAdvised(world);
    const isRunOver = current !== null && isOver(current.status);
    if (isRunOver && waiting.length === 0) return { settledMs: Date.now() - startedAt, waitsFor: '' };
    waitsFor = [...(isRunOver ? [] : ['the run']), ...waiting].join(', ');
    await sleep(pollMs);
  }
  return { settledMs: null, waitsFor: `after ${settleMs / 1000} s still waited for: ${waitsFor}` };
}

function sampleMemory({ federation }: World, resident: Map<string, number>): void {
  const note = (name: string, pid: number) =>
    resident.set(name, Math.max(resident.get(name) ?? 0, residentBytes(pid)));
  for (const agent of [federation.coordinator, ...federation.sites.map((site) => site.agent)]) {
    if (agent.pid === undefined) continue;
    note(agent.member, agent.pid);
    for (const pid of agent.children()) note(`${agent.member}'s trainer`, pid);
  }
}
