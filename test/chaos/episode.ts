/** One episode: a schedule of faults against a federation that works, then quiet, in which the run has to come to its end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from './agent.ts';
import type { Inflicted } from './checks/evidence.ts';
import { everybodyConsents } from './faults/consents.ts';
import { inflict, type World } from './faults/index.ts';
import { persist } from './federation.ts';
import { doWhatIsAdvised } from './person.ts';
import type { Fault } from './schedule.ts';

export interface EpisodeOutcome {
  /** Runs that began, oldest first. */
  runIds: string[];
  inflicted: Inflicted[];
  /** From the end of the last fault to the end of the run, ms; null when it did not end. */
  settledMs: number | null;
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
  const runIds = new Set<string>();
  const sampling = setInterval(() => sampleMemory(world, resident), sampleMs);
  try {
    await beginRun(world, runIds);
    const all = faults.map(async (fault) => {
      await sleep(fault.atMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const beganAt = Date.now();
      await inflict(world, fault);
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
    return { runIds: [...runIds], inflicted, settledMs: await settle(world, runIds, settleMs, signal) };
  } finally {
    clearInterval(sampling);
  }
}

/** Starts a run if none is in progress, and learns which it is. */
async function beginRun({ federation }: World, runIds: Set<string>): Promise<void> {
  try {
    const current = await federation.currentRun();
    if (current !== null && !isOver(current.status)) {
      runIds.add(current.id);
      return;
    }
    await federation.startRun();
    const started = await federation.currentRun();
    if (started !== null) runIds.add(started.id);
  } catch {} // The coordinator is down, frozen, or has been asked already.
}

async function settle(
  world: World,
  runIds: Set<string>,
  settleMs: number,
  signal: AbortSignal,
): Promise<number | null> {
  const { federation } = world;
  const startedAt = Date.now();
  for (const { proxy } of federation.sites) proxy.set({});
  await federation.startAll();
  await everybodyConsents(world);
  while (Date.now() - startedAt < settleMs && !signal.aborted) {
    const current = await persist(() => federation.currentRun(), pollMs);
    if (current !== null) {
      runIds.add(current.id);
      if (isOver(current.status)) return Date.now() - startedAt;
    }
    await doWhatIsAdvised(world);
    await sleep(pollMs);
  }
  return null;
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
