import { Anchor, Badge, Card, Group, Table } from '@mantine/core';
import { IconChartHistogram } from '@tabler/icons-react';
import { Link } from 'wouter';
import type { RunSummary } from '../../core/api/contract.ts';
import { useCoordinatorOverview } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatCount, formatDateTime, formatHash } from '../format/format.ts';
import { runWords, strategyLabel } from '../format/words.ts';

/** All runs of this federation. */
export function RunsScreen() {
  const overview = useCoordinatorOverview();
  return (
    <Page title="Runs" subtitle="Every training run of this federation, newest first.">
      <Card>
        <Loaded query={overview}>
          {({ runs }) =>
            runs.length === 0 ? (
              <EmptyState icon={IconChartHistogram} title="No run yet">
                Plan one on the overview. You see its schedule and what it sends before it starts.
              </EmptyState>
            ) : (
              <Paged rows={runs}>{(visible) => <RunsTable runs={visible} />}</Paged>
            )
          }
        </Loaded>
      </Card>
    </Page>
  );
}

function RunsTable({ runs }: { runs: readonly RunSummary[] }) {
  return (
    <Table aria-label="Runs" highlightOnHover>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Started</Table.Th>
          <Table.Th>Method</Table.Th>
          <Table.Th ta="right">Rounds</Table.Th>
          <Table.Th>State</Table.Th>
          <Table.Th>Run number</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {runs.map((run) => (
          <Table.Tr key={run.id}>
            <Table.Td className="numbers">
              <Anchor component={Link} href={`/runs/${run.id}`} size="sm">
                {formatDateTime(run.createdAt)}
              </Anchor>
            </Table.Td>
            <Table.Td>{strategyLabel(run.strategy)}</Table.Td>
            <Table.Td ta="right" className="numbers">
              {formatCount(Math.min(run.round + 1, run.rounds))} of {formatCount(run.rounds)}
            </Table.Td>
            <Table.Td>
              <Group gap="xs" wrap="nowrap">
                <StatusBadge word={runWords[run.status]} />
                {run.unreadable && (
                  <Badge color="gray" title={run.unreadable}>
                    Cannot be read
                  </Badge>
                )}
                {run.withdrawal && (
                  <Badge color="yellow" title={run.withdrawal.note}>
                    Consent withdrawn
                  </Badge>
                )}
              </Group>
            </Table.Td>
            <Table.Td className="code">{formatHash(run.id)}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
