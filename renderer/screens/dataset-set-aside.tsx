import { Card, Table, Text } from '@mantine/core';
import { IconPhotoCheck } from '@tabler/icons-react';
import type { SetAsideRow } from '../../core/api/contract.ts';
import { useSetAside } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Paged } from '../components/paged.tsx';
import { formatPlural } from '../format/format.ts';

/** Images that could not be used, each with its reason. */
export function SetAsidePanel() {
  const setAside = useSetAside();
  return (
    <Card>
      <Loaded query={setAside}>
        {(rows) =>
          rows.length === 0 ? (
            <EmptyState icon={IconPhotoCheck} title="Nothing set aside">
              Images in which Anneal does not find exactly one usable face are listed here with the reason.
            </EmptyState>
          ) : (
            <>
              <Text size="sm" c="dimmed" mb="md">
                {formatPlural(rows.length, 'image')} not used. Correct them and import the folder again:
                images that are already there are skipped.
              </Text>
              <Paged rows={rows}>{(visible) => <SetAsideTable rows={visible} />}</Paged>
            </>
          )
        }
      </Loaded>
    </Card>
  );
}

export function SetAsideTable({ rows }: { rows: readonly SetAsideRow[] }) {
  return (
    <Table aria-label="Images set aside">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>File</Table.Th>
          <Table.Th>Subject</Table.Th>
          <Table.Th>Why it is not used</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((row) => (
          <Table.Tr key={`${row.pseudonym}/${row.sourceName}`}>
            <Table.Td className="code">{row.sourceName}</Table.Td>
            <Table.Td>{row.pseudonym}</Table.Td>
            <Table.Td>{row.reason}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
