/** What people at a site should know of consents before and while a run goes on. */

import { noticeDays } from '../config/consent-defaults.ts';
import { type RunConfig, runConfigSchema, startStateOf } from '../config/run-config.ts';
import { trainingImages } from '../consent/cohort.ts';
import { endOfTime } from '../consent/period.ts';
import { consentsEndingBefore, expiringConsents } from '../consent/purposes.ts';
import { isMarked, withdrawalMarks } from '../coordinator/withdrawals.ts';
import { plural } from '../shared/text.ts';
import type { ReadOnlyStore } from '../store/store.ts';

/** When a run is likely to end, and how that is known. */
export interface RunEnd {
  at: string;
  /** `measured`: by its rounds so far; `planned`: if every round takes as long as its deadline allows. */
  by: 'measured' | 'planned';
}

/**
 * @param runId whose rounds here tell how long one takes
 */
export function estimateRunEnd(store: ReadOnlyStore, runId: string, config: RunConfig): RunEnd {
  const now = Date.parse(store.clock.latest());
  const opened = store.rounds
    .listOfRun(runId)
    .map(({ round, openedAt }) => ({ round, at: Date.parse(openedAt) }));
  const [first, last] = [opened[0], opened.at(-1)];
  const done = first === undefined || last === undefined ? 0 : last.round - first.round;
  const roundsLeft = config.rounds - (last?.round ?? 0);
  const isMeasured = done > 0;
  const perRound = isMeasured ? (last!.at - first!.at) / done : config.roundDeadlineMs;
  const from = last?.at ?? now;
  const end = Math.max(now, from + Math.max(0, perRound) * roundsLeft);
  return { at: new Date(Math.min(end, maxTime)).toISOString(), by: isMeasured ? 'measured' : 'planned' };
}

/** The last instant that the store's times can write. */
const maxTime = Date.parse(endOfTime);

/** Subjects whose images would train, and whose consent ends before the run is likely to. */
export function endingBeforeRun(
  store: ReadOnlyStore,
  runId: string,
  config: RunConfig,
): { subjects: number; first: string | null; runEnds: RunEnd } {
  const { purpose, classes } = config;
  const runEnds = estimateRunEnd(store, runId, config);
  const ending = consentsEndingBefore(store, purpose, runEnds.at);
  if (ending.length === 0) return { subjects: 0, first: null, runEnds };
  const at = store.clock.latest();
  const images = trainingImages(store, { runId, round: 0, purpose, labels: classes, at });
  const used = new Set(images.map(({ pseudonym }) => pseudonym));
  const concerned = ending.filter(({ pseudonym }) => used.has(pseudonym));
  return { subjects: concerned.length, first: concerned[0]?.endsAt ?? null, runEnds };
}

const day = (instant: string) => instant.slice(0, 10);
const pace = {
  measured: 'by its rounds so far',
  planned: 'if every round takes until its deadline',
} as const;

/** What a letter says beside what the run asks for; nothing in most cases. */
export function consentNotes(store: ReadOnlyStore, runId: string, config: RunConfig): string[] {
  const { subjects, first, runEnds } = endingBeforeRun(store, runId, config);
  const start = startStateOf(config);
  const isConcerned = start !== null && isMarked(withdrawalMarks(store).get(start.runId), start.round);
  return [
    ...(subjects === 0
      ? []
      : [
          `The consents of ${plural(subjects, 'subject')} end before this run does, the first on ${day(first!)}; it would end about ${day(runEnds.at)} ${pace[runEnds.by]}. From then on the rounds train without them.`,
        ]),
    ...(isConcerned
      ? [
          'This run starts from a version of an earlier run that was made with images of somebody here who has withdrawn since. You may ask the coordinator to start from a version before that.',
        ]
      : []),
  ];
}

export interface ConsentOutlook {
  /** Active consents that end within {@link noticeDays} days. */
  expiring: number;
  /** Sentences about the run in progress. */
  notes: string[];
}

export function consentOutlook(
  store: ReadOnlyStore,
  run: { id: string; config: unknown; finishedAt: string | null } | null,
): ConsentOutlook {
  const config =
    run === null || run.finishedAt !== null ? undefined : runConfigSchema.safeParse(run.config).data;
  return {
    expiring: expiringConsents(store, noticeDays).length,
    notes: config === undefined ? [] : consentNotes(store, run!.id, config),
  };
}
