/** The machine: a federation, an undisturbed run, then episode after episode until the time is over or something broke. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mishap } from './agent.ts';
import { openEvidence } from './checks/evidence.ts';
import { type Checker, createChecker } from './checks/index.ts';
import { folderBytes } from './checks/machines.ts';
import { isInside, mountDisk } from './disk.ts';
import { playEpisode } from './episode.ts';
import type { World } from './faults/index.ts';
import { type Federation, startFederation } from './federation.ts';
import type { ChaosOptions } from './options.ts';
import { type ChaosReport, type EpisodeReport, figuresOf, linesOfEpisode } from './report.ts';
import { type Fault, scheduleOf } from './schedule.ts';

/** Holds everything that a member has: its data, its images' crops, a base model. */
const diskMib = 160;
const roundDeadlineMs = 60_000;

export interface ChaosHooks {
  say(line: string): void;
  signal: AbortSignal;
}

export async function runChaos(options: ChaosOptions, { say, signal }: ChaosHooks): Promise<ChaosReport> {
  const startedAt = performance.now();
  const folder = await mkdtemp(join(tmpdir(), 'anneal-chaos-'));
  const mishaps: Mishap[] = [];
  const resident = new Map<string, number>();
  const checker = createChecker();
  const episodes: EpisodeReport[] = [];
  const counts: ChaosReport['faults'] = {};
  const total = { runs: 0, rounds: 0 };
  if (isInside())
    for (const member of ['coordinator', ...Array.from({ length: options.sites }, (_, index) => `site-${index}`)])
      mountDisk(join(folder, member), diskMib);
  const federation = await startFederation({
    folder,
    ...{ sites: options.sites, rounds: options.rounds, epochs: options.epochs, roundDeadlineMs },
    withClock: options.faults.includes('clock-jump'),
    onMishap: (mishap) => void mishaps.push(mishap),
  });
  const world: World = { federation, consents: [], note: () => {} };

  async function play(episode: number, faults: readonly Fault[], lengthMs: number): Promise<EpisodeReport> {
    const notes: string[] = [];
    world.note = (line) => void notes.push(line);
    mishaps.length = 0;
    const settleMs = options['settle-seconds'] * 1000;
    const outcome = await playEpisode(world, { faults, lengthMs, settleMs, signal, resident });
    using evidence = openEvidence(world, { ...outcome, mishaps, residentBytes: resident });
    const violations = checker.check(evidence);
    for (const { fault } of outcome.inflicted) counts[fault.kind] = (counts[fault.kind] ?? 0) + 1;
    total.runs += outcome.runIds.length;
    total.rounds += outcome.runIds.length * options.rounds;
    const { runIds, settledMs } = outcome;
    const report = { episode, runs: runIds.length, settledMs, notes, violations };
    for (const line of linesOfEpisode(report, faults)) say(line);
    return report;
  }

  try {
    say(`seed ${options.seed}; data in ${folder}`);
    episodes.push(await play(-1, [], 0));
    const lengthMs = options['episode-seconds'] * 1000;
    const isOver = () => performance.now() - startedAt + lengthMs > options.minutes * 60_000;
    for (let episode = options.episode ?? 0; !signal.aborted && !isOver(); episode++) {
      if (options.faults.includes('restore')) await federation.takeSnapshots();
      const faults = scheduleOf({
        ...{ seed: options.seed, episode, sites: options.sites, lengthMs },
        ...{ everyMs: options['every-ms'], kinds: options.faults },
      });
      episodes.push(await play(episode, faults, lengthMs));
      if (options.episode !== undefined || episodes.at(-1)!.settledMs === null) break;
    }
    return reportOf({ options, federation, checker, episodes, counts, total, resident, startedAt });
  } finally {
    await federation.close();
    if (!options.keep) await rm(folder, { recursive: true, force: true }).catch(() => {}); // Mounted folders stay, empty.
  }
}

interface Outcome {
  options: ChaosOptions;
  federation: Federation;
  checker: Checker;
  episodes: EpisodeReport[];
  counts: ChaosReport['faults'];
  total: { runs: number; rounds: number };
  resident: ReadonlyMap<string, number>;
  startedAt: number;
}

const toMib = (bytes: number) => Math.round(bytes / 2 ** 20);

function reportOf({ options, federation, checker, episodes, counts, total, resident, startedAt }: Outcome): ChaosReport {
  const agents = [federation.coordinator, ...federation.sites.map(({ agent }) => agent)];
  const folders = agents.map(({ member, dataFolder }) => [member, toMib(folderBytes(dataFolder))]);
  return {
    ...{ seed: options.seed, minutes: options.minutes, broker: options.broker, episodes, faults: counts, ...total },
    wallSeconds: (performance.now() - startedAt) / 1000,
    ...figuresOf(checker),
    residentMib: Object.fromEntries([...resident].sort().map(([name, bytes]) => [name, toMib(bytes)])),
    folderMib: Object.fromEntries(folders),
    violations: episodes.reduce((sum, { violations }) => sum + violations.length, 0),
  };
}
