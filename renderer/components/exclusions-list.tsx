import { Table } from '@mantine/core';
import type { RoundRow } from '../../core/api/contract.ts';
import { formatRound } from '../format/format.ts';

/** Updates that a robust rule made count less or not at all. */
export function ExclusionsList({ rounds }: { rounds: readonly RoundRow[] }) {
  const rows = rounds.flatMap(({ round, exclusions }) =>
    exclusions.map(({ siteName, reason }) => ({ round, siteName, reason })),
  );
  return (
    <Table.ScrollContainer minWidth={480} maxHeight={320}>
      <Table aria-label="Updates that counted less">
        <Table.Thead>
          <Table.Tr>
            <Table.Th ta="right" w={80}>
              Round
            </Table.Th>
            <Table.Th>Site</Table.Th>
            <Table.Th>Why</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map(({ round, siteName, reason }) => (
            <Table.Tr key={`${round} ${siteName}`}>
              <Table.Td ta="right" className="numbers">
                {formatRound(round)}
              </Table.Td>
              <Table.Td>{siteName}</Table.Td>
              <Table.Td>{reason}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

export const hasExclusions = (rounds: readonly RoundRow[]): boolean =>
  rounds.some(({ exclusions }) => exclusions.length > 0);
