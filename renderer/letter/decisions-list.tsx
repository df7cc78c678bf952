import { Anchor, Stack, Table, Text } from '@mantine/core';
import { useState } from 'react';
import { Link } from 'wouter';
import type { DecisionRow } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { Paged } from '../components/paged.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatDateTime, formatPlural } from '../format/format.ts';
import { decisionWords } from '../format/words.ts';
import { approver, decisionChanges } from './decision-changes.ts';

/** Limits cover the run of their own letter: one line says both. */
const isOwnCover = ({ kind, coveredBy, runId }: DecisionRow, all: readonly DecisionRow[]) =>
  kind === 'covered' && all.some((row) => row.id === coveredBy && row.runId === runId);

export const shownDecisions = (decisions: readonly DecisionRow[]): DecisionRow[] =>
  decisions.filter((row) => !isOwnCover(row, decisions));

/** What people here said to runs, newest first. */
export function DecisionsList({ decisions }: { decisions: readonly DecisionRow[] }) {
  const [ending, setEnding] = useState<DecisionRow | null>(null);
  return (
    <>
      <Paged rows={shownDecisions(decisions)} pageSize={20}>
        {(visible) => (
          <Table.ScrollContainer minWidth={540} type="native">
            <Table aria-label="Decisions" verticalSpacing="sm" layout="fixed">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th w={150}>When</Table.Th>
                  <Table.Th w="30%">Study</Table.Th>
                  <Table.Th>Decision</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {visible.map((row) => (
                  <DecisionLine
                    key={row.id}
                    row={row}
                    note={noteOf(row, decisions)}
                    onEnd={() => setEnding(row)}
                  />
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
      </Paged>
      {ending && <EndDialog row={ending} onClose={() => setEnding(null)} />}
    </>
  );
}

const studyOf = ({ title, purpose }: DecisionRow) => title || purpose || 'A run without a title';

interface DecisionLineProps {
  row: DecisionRow;
  note: string;
  onEnd: () => void;
}

function DecisionLine({ row, note, onEnd }: DecisionLineProps) {
  return (
    <Table.Tr style={{ verticalAlign: 'top' }}>
      <Table.Td className="numbers">
        {formatDateTime(row.createdAt)}
        <Text size="xs" c="dimmed">
          {row.actor}
        </Text>
      </Table.Td>
      <Table.Td style={{ overflowWrap: 'anywhere' }}>
        <Anchor component={Link} href={`/requests/${row.contractSha256}`} size="sm">
          {studyOf(row)}
        </Anchor>
      </Table.Td>
      <Table.Td>
        <Stack gap={4} align="flex-start">
          <StatusBadge word={decisionWords[row.kind]} />
          <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
            {note}
          </Text>
          {stillCovers(row) && (
            <RoleButton needs={approver} size="compact-sm" variant="light" color="red" onClick={onEnd}>
              Take back…
            </RoleButton>
          )}
        </Stack>
      </Table.Td>
    </Table.Tr>
  );
}

/** Whether limits may cover another round. */
export function stillCovers({ standing, endedAt }: DecisionRow, now: Date = new Date()): boolean {
  if (standing === null || endedAt !== null) return false;
  return standing.until === null || now.toISOString() < standing.until;
}

function noteOf(row: DecisionRow, all: readonly DecisionRow[]): string {
  const { reason, standing, endedAt, coveredBy } = row;
  if (reason !== null) return `“${reason}”`;
  if (coveredBy !== null) {
    const granted = all.find(({ id }) => id === coveredBy);
    return granted === undefined ? '' : `By the approval of ${formatDateTime(granted.createdAt)}`;
  }
  if (standing === null) return '';
  if (endedAt !== null) return `Taken back on ${formatDateTime(endedAt)}`;
  const { runs, runsUsed, until } = standing;
  const end = until === null ? 'without an end date' : `until ${formatDateTime(until)}`;
  const limits = [
    `${formatPlural(standing.rounds, 'round')} at most`,
    `rank ${standing.rMax} at most`,
    `${formatPlural(standing.quorum, 'site')} at least`,
    `counts from ${standing.smallCell}`,
    `${formatPlural(standing.batchSize, 'image')} a step at least`,
    formatPlural(standing.classes.length, 'class'),
  ];
  return `${runsUsed} of ${formatPlural(runs, 'run')} used, ${end}. ${limits.join(', ')}.`;
}

function EndDialog({ row, onClose }: { row: DecisionRow; onClose: () => void }) {
  const end = useAction(() => api.site.endApproval.mutate({ decision: row.id }), {
    changes: decisionChanges,
    success: () => 'Taken back. Later runs ask again.',
    onSuccess: onClose,
    ownErrors: true,
  });
  return (
    <ConfirmDialog
      opened
      danger
      title="Take this approval back?"
      confirmLabel="Take it back"
      busy={end.isPending}
      error={end.error}
      onConfirm={() => end.mutate(undefined)}
      onClose={onClose}
    >
      <Text size="sm">
        The limits cover no further round: a run in progress that they cover stops here and asks again, as
        later runs do. What the coordinator has received already stays in the shared model.
      </Text>
    </ConfirmDialog>
  );
}
