import { Alert, Group, Text } from '@mantine/core';
import { IconUserMinus } from '@tabler/icons-react';
import { useState } from 'react';
import { useLocation } from 'wouter';
import type { RunDetail } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { isActive } from './stop-run.tsx';

/** Somebody has withdrawn whose images this run was made with: what is marked, and how to begin again from before. */
export function WithdrawalNotice({ run, note }: { run: RunDetail; note: string }) {
  const [asking, setAsking] = useState(false);
  const [, navigate] = useLocation();
  const restart = useAction(() => api.coordinator.restartRun.mutate({ runId: run.id }), {
    changes: ['coordinator', 'run', 'audit'],
    success: ({ startedFrom }) =>
      startedFrom === null
        ? 'A new run has begun with a fresh adapter.'
        : `A new run has begun with the result of round ${startedFrom.round + 1}.`,
    onSuccess: ({ id }) => navigate(`/runs/${id}`),
    ownErrors: true,
  });
  return (
    <Alert
      color="yellow"
      icon={<IconUserMinus aria-hidden />}
      title="A consent behind this run was withdrawn"
    >
      <Text size="sm">{note}</Text>
      <Group mt="sm">
        <RoleButton needs={['approver']} variant="default" size="xs" onClick={() => setAsking(true)}>
          Start again from before…
        </RoleButton>
      </Group>
      <ConfirmDialog
        opened={asking}
        title="Start again from before the withdrawal?"
        confirmLabel="Start again"
        busy={restart.isPending}
        error={restart.error}
        onConfirm={() => restart.mutate(undefined)}
        onClose={() => setAsking(false)}
      >
        <Text size="sm">
          A new run with the same settings begins with the newest result that nobody has withdrawn from, or
          with a fresh adapter if there is none. Every site is asked for its approval again.
          {isActive(run) && ' This run is stopped first.'} Its results stay here, marked.
        </Text>
      </ConfirmDialog>
    </Alert>
  );
}
