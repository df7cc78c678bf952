/** What a chaos run found, as lines for people and as JSON. */
import type { Violation } from './checks/evidence.ts';
import type { Checker } from './checks/index.ts';
import { describeFault, type Fault, type FaultKind } from './schedule.ts';

export interface EpisodeReport {
  episode: number;
  runs: number;
  settledMs: number | null;
  /** What faults came upon. */
  notes: string[];
  violations: Violation[];
}

export interface ChaosReport {
  seed: number;
  minutes: number;
  wallSeconds: number;
  broker: 'embedded' | 'mosquitto';
  episodes: EpisodeReport[];
  faults: Partial<Record<FaultKind, number>>;
  runs: number;
  rounds: number;
  updatesAnnounced: number;
  updatesCounted: number;
  /** How many times the same beginning was seen again, and gave the same bytes; and whole runs as the undisturbed one. */
  compared: { updates: number; results: number; wholeRuns: number };
  residentMib: Record<string, number>;
  folderMib: Record<string, number>;
  loggedErrors: Record<string, number>;
  violations: number;
}

export function linesOfEpisode(
  { episode, runs, settledMs, notes, violations }: EpisodeReport,
  faults: readonly Fault[],
): string[] {
  const settled = settledMs === null ? 'not settled' : `settled in ${(settledMs / 1000).toFixed(1)} s`;
  const head = `episode ${episode}: ${faults.length} faults, ${runs} runs, ${settled}, ${violations.length} violations`;
  if (violations.length === 0) return [head];
  return [
    head,
    ...violations.map(({ invariant, what }) => `  VIOLATED ${invariant}: ${what}`),
    '  schedule:',
    ...faults.map((fault) => `    ${describeFault(fault)}`),
    ...notes.map((note) => `    ${note}`),
  ];
}

export function figuresOf({ known, arrivals, loggedErrors }: Checker) {
  return {
    updatesAnnounced: arrivals.announced,
    updatesCounted: arrivals.counted,
    compared: known.compared,
    loggedErrors: Object.fromEntries([...loggedErrors].sort()),
  };
}

export function linesOfReport(report: ChaosReport): string[] {
  const { seed, episodes, faults, runs, rounds, compared, violations, wallSeconds, broker } = report;
  const listed = Object.entries(faults)
    .sort(([, a], [, b]) => b - a)
    .map(([kind, count]) => `${count} ${kind}`);
  const memory = Object.entries(report.residentMib).map(([name, mib]) => `${name} ${mib} MiB`);
  const folders = Object.entries(report.folderMib).map(([name, mib]) => `${name} ${mib} MiB`);
  return [
    '',
    `seed ${seed}, ${broker} broker: ${episodes.length} episodes in ${wallSeconds.toFixed(0)} s`,
    `faults: ${listed.join(', ') || 'none'}`,
    `${runs} runs, ${rounds} rounds; ${report.updatesAnnounced} updates announced, ${report.updatesCounted} counted`,
    `same bytes: ${compared.updates} updates, ${compared.results} results and ${compared.wholeRuns} whole runs as before`,
    `memory at most: ${memory.join(', ')}`,
    `data folders: ${folders.join(', ')}`,
    ...Object.entries(report.loggedErrors).map(([what, count]) => `logged ${count} times: ${what}`),
    violations === 0
      ? 'no violations'
      : `${violations} violations; the same again: npm run chaos -- --seed ${seed}`,
  ];
}
