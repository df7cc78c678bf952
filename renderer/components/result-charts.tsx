import { Stack, Text } from '@mantine/core';
import type { RoundRow } from '../../core/api/contract.ts';
import { formatBytes, formatLoss, formatPercent } from '../format/format.ts';
import { resultRows } from '../format/schedule-rows.ts';
import { ChartPanel } from './chart-panel.tsx';

interface ResultChartsProps {
  rounds: RoundRow[];
  /** Rounds of the whole run: the axis does not grow while it runs. */
  total: number;
}

/** Loss, accuracy and bytes of each round, one under the other on the same rounds. */
export function ResultCharts({ rounds, total }: ResultChartsProps) {
  const closed = rounds.filter((round) => round.status === 'closed');
  const first = closed[0];
  const last = closed.at(-1);
  if (first === undefined || last === undefined) {
    return (
      <Text size="sm" c="dimmed">
        The first results appear when round 1 is closed.
      </Text>
    );
  }
  const rows = resultRows(closed, total);
  return (
    <Stack gap="sm">
      <ChartPanel
        title="Federated accuracy"
        kind="line"
        group="results"
        height={110}
        withRounds={false}
        rows={rows}
        ticks={[0, 0.5, 1]}
        format={(value) => formatPercent(value, 0)}
        series={[{ name: 'accuracy', label: 'Accuracy', color: 'var(--anneal-done)' }]}
        summary={`Accuracy went from ${formatPercent(first.accuracy)} to ${formatPercent(last.accuracy)}.`}
      />
      <ChartPanel
        title="Mean loss"
        kind="line"
        group="results"
        height={110}
        withRounds={false}
        rows={rows}
        format={(value) => value.toFixed(2)}
        series={[{ name: 'loss', label: 'Loss', color: 'var(--anneal-second)' }]}
        summary={`Loss went from ${formatLoss(first.meanLoss)} to ${formatLoss(last.meanLoss)}.`}
      />
      <ChartPanel
        title="Data, all sites"
        kind="bars"
        group="results"
        height={130}
        rows={rows}
        format={formatBytes}
        series={[
          { name: 'bytesUp', label: 'To the coordinator', color: 'var(--anneal-done)' },
          { name: 'bytesDown', label: 'To the sites', color: 'var(--anneal-planned)' },
        ]}
        summary={`The last round sent ${formatBytes(last.bytesUp)} up and ${formatBytes(last.bytesDown)} down.`}
      />
    </Stack>
  );
}
