import { Card, NativeSelect, Table, Text } from '@mantine/core';
import { IconPhotoCheck } from '@tabler/icons-react';
import { useState } from 'react';
import type { SetAsideRow } from '../../core/api/contract.ts';
import { useSetAside } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Paged } from '../components/paged.tsx';
import { SubjectLink } from '../components/subject-link.tsx';
import { formatCount, formatPlural } from '../format/format.ts';
import { asideWords } from '../format/image-words.ts';

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
            <SetAsideList rows={rows} />
          )
        }
      </Loaded>
    </Card>
  );
}

function SetAsideList({ rows }: { rows: readonly SetAsideRow[] }) {
  const [kind, setKind] = useState('');
  const counts = Map.groupBy(rows, (row) => row.kind ?? 'other');
  const kinds = [...counts].map(([value, { length }]) => ({
    value,
    label: `${asideWords[value]} (${formatCount(length)})`,
  }));
  const shown = rows.filter((row) => kind === '' || (row.kind ?? 'other') === kind);
  return (
    <>
      <Text size="sm" c="dimmed" mb="md">
        {formatPlural(rows.length, 'image')} not used. Correct them, or the policy of this site, and import
        the folder again: what is set aside is looked at anew, and what is ready is skipped.
      </Text>
      {kinds.length > 1 && (
        <NativeSelect
          label="Reason"
          mb="md"
          maw={280}
          data={[{ value: '', label: `All (${formatCount(rows.length)})` }, ...kinds]}
          value={kind}
          onChange={(event) => setKind(event.currentTarget.value)}
        />
      )}
      <Paged rows={shown} resetKey={kind}>
        {(visible) => <SetAsideTable rows={visible} />}
      </Paged>
    </>
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
            <Table.Td>
              <SubjectLink pseudonym={row.pseudonym} />
            </Table.Td>
            <Table.Td>{row.reason}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
