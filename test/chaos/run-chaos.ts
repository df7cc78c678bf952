/** The machine: a federation, an undisturbed run, then episode after episode until the time is over or something hangs. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mishap } from './agent.ts';
import { openEvidence } from './checks/evidence.ts';
import { createChecker } from './checks/index.ts';
import { folderBytes } from './checks/machines.ts';
import { timelineOf } from './checks/rounds.ts';
import { isInside, mountDisk, unmountDisk } from './disk.ts';
import { playEpisode } from './episode.ts';
import { putBack } from './faults/bit-flip.ts';
import type { World } from './faults/index.ts';
import { startFederation } from './federation.ts';
import type { ChaosOptions } from './options.ts';
import { type ChaosReport, type EpisodeReport, figuresOf, linesOfEpisode } from './report.ts';
import { type Fault, scheduleOf } from './schedule.ts';

/** Holds everything that a member has: its data, its images' crops, a base model. */
const diskMib = 96;
const roundDeadlineMs = 60_000;
/** Apart from each other, an external broker dies. */
const brokerEveryMs = [5_000, 20_000] as const;
/** The undisturbed run. */
const reference = -1;

export interface ChaosHooks {
  say(line: string): void;
  /** Ends the machine after what is under way was taken back. */
  signal: AbortSignal;
}

export async function runChaos(options: ChaosOptions, hooks: ChaosHooks): Promise<ChaosReport> {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-chaos-'));
  const members = ['coordinator', ...Array.from({ length: options.sites }, (_, index) => `site-${index}`)];
  const disks = isInside() ? members.map((member) => join(folder, member)) : [];
  hooks.say(`seed ${options.seed}; data in ${folder}`);
  try {
    for (const disk of disks) mountDisk(disk, diskMib);
    return await playAll(options, folder, hooks);
  } finally {
    // What is on a disk in memory goes with the namespace in any case.
    for (const disk of disks) unmountDisk(disk);
    if (!options.keep) await rm(folder, { recursive: true, force: true });
  }
}

async function playAll(options: ChaosOptions, folder: string, hooks: ChaosHooks): Promise<ChaosReport> {
  const { seed, sites, rounds, epochs, broker, faults } = options;
  const startedAt = performance.now();
  const mishaps: Mishap[] = [];
  const federation = await startFederation({
    ...{ folder, sites, rounds, epochs, roundDeadlineMs, broker, withClock: faults.includes('clock-jump') },
    onMishap: (mishap) => void mishaps.push(mishap),
  });
  const world: World = {
    federation,
    consents: [],
    restores: [],
    flips: [],
    waits: [],
    clocksWrongSince: new Map(),
    note: () => {},
  };
  const lengthMs = options['episode-seconds'] * 1000;
  const kinds = broker === 'mosquitto' ? [...faults, 'kill-broker' as const] : faults;
  const played = createRecord(options, world, mishaps, hooks);
  const first = options.episode ?? 0;
  const count = options.episode === undefined ? options.episodes : 1;
  const isOver = (episode: number) =>
    count === undefined
      ? performance.now() - startedAt + lengthMs > options.minutes * 60_000
      : episode >= first + count;
  try {
    let last = await played.play(reference, [], 0);
    for (let episode = first; !hooks.signal.aborted && !isOver(episode); episode++) {
      // What hangs would hang in every later episode, too.
      if (last.settledMs === null) break;
      const schedule = { seed, episode, sites, lengthMs, everyMs: options['every-ms'], kinds, brokerEveryMs };
      last = await played.play(episode, scheduleOf(schedule), lengthMs);
    }
    return played.report((performance.now() - startedAt) / 1000);
  } finally {
    await federation.close();
  }
}

/** Plays episodes, checks after each, and counts. */
function createRecord(options: ChaosOptions, world: World, mishaps: Mishap[], { say, signal }: ChaosHooks) {
  const checker = createChecker();
  const resident = new Map<string, number>();
  const episodes: EpisodeReport[] = [];
  const counts: ChaosReport['faults'] = {};
  const settleMs = options['settle-seconds'] * 1000;
  const runs = () => episodes.reduce((sum, episode) => sum + episode.runs, 0);
  return {
    async play(episode: number, faults: readonly Fault[], lengthMs: number): Promise<EpisodeReport> {
      const notes: string[] = [];
      world.note = (line) => void notes.push(line);
      const outcome = await playEpisode(world, { faults, lengthMs, settleMs, signal, resident });
      using evidence = openEvidence(world, {
        ...outcome,
        ...{ mishaps: [...mishaps, ...outcome.mishaps], residentBytes: resident },
        unsettled: outcome.settledMs === null && !signal.aborted ? outcome.waitsFor : null,
      });
      const violations = checker.check(evidence);
      mishaps.length = 0;
      // So that the next episode begins with whole files, also where nobody has read these.
      await putBack(world, () => true, false);
      world.flips.length = 0;
      world.waits.length = 0;
      for (const { fault } of outcome.inflicted)
        if (fault.kind !== 'full-disk' || isInside()) counts[fault.kind] = (counts[fault.kind] ?? 0) + 1;
      const { runIds, settledMs } = outcome;
      const report = { episode, runs: runIds.length, settledMs, notes, violations };
      episodes.push(report);
      for (const line of linesOfEpisode(report, faults)) say(line);
      if (violations.length > 0)
        for (const line of runIds.flatMap((runId) => timelineOf(evidence, runId))) say(`    ${line}`);
      return report;
    },
    report(wallSeconds: number): ChaosReport {
      const { coordinator, sites } = world.federation;
      const agents = [coordinator, ...sites.map(({ agent }) => agent)];
      const folders = agents.map(({ member, dataFolder }) => [member, toMib(folderBytes(dataFolder))]);
      return {
        ...{ seed: options.seed, minutes: options.minutes, broker: options.broker, wallSeconds, episodes },
        ...{ faults: counts, runs: runs(), rounds: runs() * options.rounds, ...figuresOf(checker) },
        residentMib: Object.fromEntries([...resident].sort().map(([name, bytes]) => [name, toMib(bytes)])),
        folderMib: Object.fromEntries(folders),
        violations: episodes.reduce((sum, { violations }) => sum + violations.length, 0),
      };
    },
  };
}

const toMib = (bytes: number) => Math.round(bytes / 2 ** 20);
