import { Stack } from '@mantine/core';
import type { RoundRow } from '../../core/api/contract.ts';
import { formatLoss, formatPercent } from '../format/format.ts';
import { agreementRows } from '../format/schedule-rows.ts';
import { ChartPanel, type ChartRow } from './chart-panel.tsx';

interface AgreementChartsProps {
  rounds: RoundRow[];
  /** Rounds of the whole run: the axis does not grow while it runs. */
  total: number;
}

/** How far the sites pulled apart, what cutting to the next rank kept, and the privacy that was spent. */
export function AgreementCharts({ rounds, total }: AgreementChartsProps) {
  const closed = rounds.filter((round) => round.status === 'closed');
  const rows = agreementRows(closed, total);
  const ends = (read: (round: RoundRow) => number | null, format: (value: number | null) => string) => {
    const known = closed.map(read).filter((value) => value !== null);
    return `from ${format(known[0] ?? null)} to ${format(known.at(-1) ?? null)}`;
  };
  const shared = { kind: 'line', group: 'agreement', height: 110, rows } as const;
  const percent = (value: number) => formatPercent(value, 0);
  const hasEpsilon = has(rows, 'epsilon');
  return (
    <Stack gap="sm">
      {has(rows, 'drift') && (
        <ChartPanel
          {...shared}
          title="Drift between sites"
          withRounds={!has(rows, 'energy') && !hasEpsilon}
          ticks={[0, 0.5, 1]}
          format={percent}
          series={[{ name: 'drift', label: 'Drift', color: 'var(--anneal-second)' }]}
          summary={`The share of the sites’ changes that did not agree went ${ends(
            (round) => round.drift?.share ?? null,
            (value) => formatPercent(value),
          )}.`}
        />
      )}
      {has(rows, 'energy') && (
        <ChartPanel
          {...shared}
          title="Energy kept when the rank was cut"
          withRounds={!hasEpsilon}
          ticks={[0, 0.5, 1]}
          format={percent}
          series={[{ name: 'energy', label: 'Energy kept', color: 'var(--anneal-done)' }]}
          summary={`The energy kept went ${ends(
            (round) => round.energyKept,
            (value) => formatPercent(value),
          )}.`}
        />
      )}
      {hasEpsilon && (
        <ChartPanel
          {...shared}
          title="Privacy spent, ε"
          format={(value) => value.toFixed(2)}
          series={[{ name: 'epsilon', label: 'ε', color: 'var(--anneal-second)' }]}
          summary={`The ε that was spent went ${ends((round) => round.epsilon, formatLoss)}.`}
        />
      )}
    </Stack>
  );
}

const has = (rows: readonly ChartRow[], name: string) => rows.some((row) => row[name] !== null);

/** Whether there is anything for {@link AgreementCharts} to draw. */
export const hasAgreement = (rounds: readonly RoundRow[]): boolean =>
  rounds.some(
    ({ status, drift, energyKept }) => status === 'closed' && (drift !== null || energyKept !== null),
  );
