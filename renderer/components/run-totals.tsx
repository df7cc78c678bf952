import { SimpleGrid, type SimpleGridProps } from '@mantine/core';
import type { RunDetail } from '../../core/api/contract.ts';
import { formatBytes, formatCompact, formatPercent, savedShare } from '../format/format.ts';
import { Figure } from './figure.tsx';

interface RunTotalsProps {
  totals: RunDetail['totals'];
  /** `planned` totals are of the whole run; those of a run count what was sent until now. */
  of: 'plan' | { doneRounds: number; rounds: number };
  cols?: SimpleGridProps['cols'];
}

interface Amount {
  parameters: number;
  bytes: number;
}

/** `96.1 % less`, or more: an honest comparison may go either way. */
function difference(sent: number, other: number): string | null {
  const saved = other > 0 && sent > 0 ? savedShare(sent, other) : null;
  if (saved === null) return null;
  if (Math.abs(saved) < 0.0005) return 'the same';
  return saved >= 0 ? `${formatPercent(saved)} less` : `${formatPercent(-saved)} more`;
}

function comparison(sent: Amount, other: Amount, until: string): { value: string; hint: string } {
  const value = difference(sent.parameters, other.parameters);
  if (value === null) return { value: '–', hint: 'once the first round is done' };
  // Headers of files make a little difference; only one that says something is shown.
  const differs = Math.abs(sent.bytes / other.bytes - sent.parameters / other.parameters) > 0.01;
  const bytes = differs ? ` (in bytes ${difference(sent.bytes, other.bytes)})` : '';
  return { value, hint: `it sends ${formatCompact(other.parameters)} parameters${until}${bytes}` };
}

/**
 * What a run sends in all, beside what the usual methods would send for the same rounds. Those send the same
 * in every round, so that a run in progress is compared with its share of theirs.
 */
export function RunTotals({ totals, of, cols = 3 }: RunTotalsProps) {
  const complete = of === 'plan' || of.doneRounds === of.rounds;
  const share = of === 'plan' ? 1 : of.doneRounds / of.rounds;
  const until = complete ? '' : ' by now';
  const sent = { parameters: totals.parametersSent, bytes: totals.bytesSent };
  const part = (parameters: number, bytes: number) => ({
    parameters: parameters * share,
    bytes: bytes * share,
  });
  const fixed = comparison(sent, part(totals.fixedRankParameters, totals.fixedRankBytes), until);
  const full = comparison(sent, part(totals.fedavgFullParameters, totals.fedavgFullBytes), until);
  return (
    <SimpleGrid cols={cols} mt="md">
      <Figure
        label={of === 'plan' ? 'To be sent in total' : complete ? 'Sent in total' : 'Sent so far'}
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
