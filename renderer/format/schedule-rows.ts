/** What the charts draw, from what the agent tells. */
import type { PlannedRound, RoundRow } from '../../core/api/contract.ts';
import type { Stage } from '../../core/strategy/strategy.ts';
import type { ChartRow } from '../components/chart-panel.tsx';

/**
 * One row per planned round: rank and bytes either as planned or, once the round is closed, as done.
 * Done bytes are per site, like the planned ones: the mean over the sites whose update was received.
 */
export function scheduleRows(plan: readonly PlannedRound[], done: readonly RoundRow[]): ChartRow[] {
  const closed = new Map(done.filter((row) => row.status === 'closed').map((row) => [row.round, row]));
  return plan.map((planned) => {
    const row = closed.get(planned.round);
    return {
      round: String(planned.round + 1),
      rankDone: row ? row.rank : null,
      rankPlanned: row ? null : planned.rank,
      bytesDone: row ? bytesPerSite(row, planned) : null,
      bytesPlanned: row ? null : planned.bytesPerSite,
    };
  });
}

function bytesPerSite(row: RoundRow, planned: PlannedRound): number {
  const senders = row.sites.filter((site) => site.status === 'received').length;
  return senders > 0 ? Math.round(row.bytesUp / senders) : planned.bytesPerSite;
}

export interface StageSpan {
  stage: Stage;
  /** First round, 0-based. */
  from: number;
  rounds: number;
}

/** Neighbouring rounds of one stage, joined. */
export function stageSpans(plan: readonly PlannedRound[]): StageSpan[] {
  const spans: StageSpan[] = [];
  for (const { stage, round } of plan) {
    const last = spans.at(-1);
    if (last?.stage === stage) last.rounds += 1;
    else spans.push({ stage, from: round, rounds: 1 });
  }
  return spans;
}

/** Loss, accuracy and bytes by round, over all `total` rounds; those to come have no values. */
export function resultRows(done: readonly RoundRow[], total: number): ChartRow[] {
  const byRound = new Map(done.map((row) => [row.round, row]));
  return Array.from({ length: total }, (_, round) => {
    const row = byRound.get(round);
    return {
      round: String(round + 1),
      loss: row?.meanLoss ?? null,
      accuracy: row?.accuracy ?? null,
      bytesUp: row?.bytesUp ?? null,
      bytesDown: row?.bytesDown ?? null,
    };
  });
}

/** Drift, energy kept and ε by round, over all `total` rounds; those to come have no values. */
export function agreementRows(done: readonly RoundRow[], total: number): ChartRow[] {
  const byRound = new Map(done.map((row) => [row.round, row]));
  return Array.from({ length: total }, (_, round) => {
    const row = byRound.get(round);
    return {
      round: String(round + 1),
      drift: row?.drift?.share ?? null,
      energy: row?.energyKept ?? null,
      epsilon: row?.epsilon ?? null,
    };
  });
}
