/**
 * What comes of the same beginnings is the same to the last byte, however often a process died on the way: an update follows
 * from the settings, the state that the round began with, the site and its cohort; a result from that state and the updates.
 * The first run of all is undisturbed, so that every later one of the same members is held against it.
 */
import { runConfigSchema } from '../../../core/config/run-config.ts';
import { hashJson } from '../../../core/shared/hash.ts';
import { announcedBy, type Evidence, type Violation } from './evidence.ts';

export interface Known {
  /** What came of what, over all runs so far. */
  readonly outcomes: Map<string, string>;
  /** Rounds whose beginnings had been seen before, and those that were the same as the undisturbed run's to the end. */
  compared: { updates: number; results: number; wholeRuns: number };
  finalOfReference: string | null;
}

export const nothingKnown = (): Known => ({
  outcomes: new Map(),
  compared: { updates: 0, results: 0, wholeRuns: 0 },
  finalOfReference: null,
});

export function sameBytes({ coordinator: { store }, sites, runIds }: Evidence, known: Known): Violation[] {
  const found: Violation[] = [];
  const follows = (kind: 'updates' | 'results', from: unknown, outcome: string, what: string) => {
    const key = hashJson({ kind, from });
    const before = known.outcomes.get(key);
    known.outcomes.set(key, outcome);
    if (before === undefined) return;
    known.compared[kind]++;
    if (before !== outcome)
      found.push({ invariant: 'same bytes', what: `${what} differs from that of the same beginning` });
  };
  for (const runId of runIds) {
    const run = store.runs.get(runId);
    if (run === null) continue;
    const config = hashJson(runConfigSchema.parse(run.config));
    const records = store.rounds.listOfRun(runId);
    for (const { round, startSha256, resultSha256 } of records) {
      if (resultSha256 === null) continue;
      const rows = store.roundSites.list(runId, round).filter(({ status }) => status === 'received');
      const updates = rows.map(({ siteId, updateSha256 }) => [siteId, updateSha256]);
      follows(
        'results',
        { config, round, startSha256, updates },
        resultSha256,
        `result of round ${round} of ${runId}`,
      );
    }
    for (const site of sites)
      for (const { round, updateSha256, cohortSha256 } of announcedBy(site, runId)) {
        const startSha256 = records[round]?.startSha256;
        if (startSha256 === undefined) continue;
        const from = { config, round, startSha256, site: site.name, cohortSha256 };
        follows('updates', from, updateSha256, `update of ${site.member} for round ${round} of ${runId}`);
      }
    const final = records.at(-1)?.resultSha256 ?? null;
    known.finalOfReference ??= final;
    if (final !== null && final === known.finalOfReference) known.compared.wholeRuns++;
  }
  return found;
}
