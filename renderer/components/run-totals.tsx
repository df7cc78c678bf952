import { SimpleGrid } from '@mantine/core';
import type { RunDetail } from '../../core/api/contract.ts';
import { formatBytes, formatCompact, formatPercent, savedShare } from '../format/format.ts';
import { Figure } from './figure.tsx';

interface RunTotalsProps {
  totals: RunDetail['totals'];
  /** `planned` totals are of the whole run; those of a run count what was sent until now. */
  of: 'plan' | { doneRounds: number; rounds: number };
}

/** Less by 96 % than …, or more: an honest comparison may go either way. */
function comparison(sent: number, other: number, until: string): { value: string; hint: string } {
  const saved = other > 0 && sent > 0 ? savedShare(sent, other) : null;
  if (saved === null) return { value: '–', hint: 'once the first round is done' };
  const value =
    Math.abs(saved) < 0.0005
      ? 'the same'
      : saved >= 0
        ? `${formatPercent(saved)} less`
        : `${formatPercent(-saved)} more`;
  return { value, hint: `it sends ${formatCompact(other)} parameters${until}` };
}

/**
 * What a run sends in all, beside what the usual methods would send for the same rounds. Those send the same
 * in every round, so that a run in progress is compared with its share of theirs.
 */
export function RunTotals({ totals, of }: RunTotalsProps) {
  const complete = of === 'plan' || of.doneRounds === of.rounds;
  const share = of === 'plan' ? 1 : of.doneRounds / of.rounds;
  const until = complete ? '' : ' by now';
  const full = comparison(totals.parametersSent, totals.fedavgFullParameters * share, until);
  const fixed = comparison(totals.parametersSent, totals.fixedRankParameters * share, until);
  return (
    <SimpleGrid cols={3} mt="md">
      <Figure
        label={of === 'plan' ? 'To be sent in all' : complete ? 'Sent in all' : 'Sent so far'}
        value={formatBytes(totals.bytesSent)}
        hint={`${formatCompact(totals.parametersSent)} parameters`}
      />
      <Figure label="Against fixed-rank LoRA" value={fixed.value} hint={fixed.hint} />
      <Figure label="Against full FedAvg" value={full.value} hint={full.hint} />
    </SimpleGrid>
  );
}

/** The rounds of a run that its totals cover. */
export function coveredRounds(run: RunDetail): { doneRounds: number; rounds: number } {
  return { doneRounds: run.done.filter((round) => round.status === 'closed').length, rounds: run.rounds };
}
