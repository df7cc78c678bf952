import { Table } from '@mantine/core';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { LetterPart } from './letter-part.tsx';

/** Why a person is asked again. */
export function LetterDifferences({ rows }: { rows: ApprovalCard['beyondEarlier'] }) {
  return (
    <LetterPart title="It asks for more than was approved here last">
      <Table.ScrollContainer minWidth={480} type="native">
        <Table aria-label="Differences from the last approval" layout="fixed">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>What</Table.Th>
              <Table.Th>Before</Table.Th>
              <Table.Th>Now</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map(({ label, before, now }) => (
              <Table.Tr key={label}>
                <Table.Td>{label}</Table.Td>
                <Table.Td style={{ overflowWrap: 'anywhere' }}>{before}</Table.Td>
                <Table.Td style={{ overflowWrap: 'anywhere' }}>
                  <b>{now}</b>
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </LetterPart>
  );
}
