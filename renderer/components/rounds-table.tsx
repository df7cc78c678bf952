import { Badge, Table, Text } from '@mantine/core';
import type { RoundRow } from '../../core/api/contract.ts';
import { formatBytes, formatCount, formatLoss, formatPercent } from '../format/format.ts';
import { classMeansWord, roundWords, stageWords } from '../format/words.ts';
import { StatusBadge } from './status-badge.tsx';

/** Every round so far with its measured figures. */
/** @param preparing rounds that come before training */
export function RoundsTable({ rounds, preparing }: { rounds: RoundRow[]; preparing: number }) {
  if (rounds.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        No round has opened yet.
      </Text>
    );
  }
  const shows = {
    drift: rounds.some(({ drift }) => drift !== null),
    epsilon: rounds.some(({ epsilon }) => epsilon !== null),
  };
  return (
    <Table.ScrollContainer
      minWidth={820 + 90 * (Number(shows.drift) + Number(shows.epsilon))}
      // A bar that hides itself would not tell that there is more to the right.
      scrollAreaProps={{ type: 'auto', offsetScrollbars: 'x', viewportProps: { tabIndex: 0 } }}
    >
      <Table aria-label="Rounds" className="numbers" horizontalSpacing="xs" style={{ whiteSpace: 'nowrap' }}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th ta="right">Round</Table.Th>
            <Table.Th>Stage</Table.Th>
            <Table.Th ta="right">Rank</Table.Th>
            <Table.Th ta="right">Parameters</Table.Th>
            <Table.Th ta="right">Sent up</Table.Th>
            <Table.Th ta="right">Sent down</Table.Th>
            <Table.Th ta="right">Loss</Table.Th>
            <Table.Th ta="right">Accuracy</Table.Th>
            <Table.Th
              ta="right"
              title="Energy kept: share of the merged update that is left after cutting it to the next rank"
            >
              Kept
            </Table.Th>
            {shows.drift && (
              <Table.Th ta="right" title="Share of the sites' changes that cancels out">
                Drift
              </Table.Th>
            )}
            {shows.epsilon && (
              <Table.Th ta="right" title="Privacy spent up to and with this round">
                ε
              </Table.Th>
            )}
            <Table.Th>State</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rounds.map((round) => (
            <Row key={round.round} round={round} shows={shows} preparing={preparing} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

interface RowProps {
  round: RoundRow;
  shows: { drift: boolean; epsilon: boolean };
  preparing: number;
}

function Row({ round, shows, preparing }: RowProps) {
  const stage = round.round < preparing ? classMeansWord : stageWords[round.stage];
  return (
    <Table.Tr>
      <Table.Td ta="right">{formatCount(round.round + 1)}</Table.Td>
      <Table.Td>
        <Badge color={stage.color} title={stage.explanation}>
          {stage.label}
        </Badge>
      </Table.Td>
      <Table.Td ta="right">{round.rank === 0 ? '–' : round.rank}</Table.Td>
      <Table.Td ta="right">{formatCount(round.trainableParameters)}</Table.Td>
      <Table.Td ta="right">{formatBytes(round.bytesUp)}</Table.Td>
      <Table.Td ta="right">{formatBytes(round.bytesDown)}</Table.Td>
      <Table.Td ta="right">{formatLoss(round.meanLoss)}</Table.Td>
      <Table.Td ta="right">{formatPercent(round.accuracy)}</Table.Td>
      <Table.Td ta="right">{formatPercent(round.energyKept)}</Table.Td>
      {shows.drift && <Table.Td ta="right">{formatPercent(round.drift?.share ?? null)}</Table.Td>}
      {shows.epsilon && <Table.Td ta="right">{round.epsilon?.toFixed(2) ?? '–'}</Table.Td>}
      <Table.Td>
        <StatusBadge word={roundWords[round.status]} />
      </Table.Td>
    </Table.Tr>
  );
}
