import { Text } from '@mantine/core';
import { IconPlayerStop } from '@tabler/icons-react';
import { useState } from 'react';
import type { RunSummary } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { RoleButton } from '../components/role-button.tsx';

/** Whether a run can still be stopped. */
export const isActive = ({ status }: RunSummary) =>
  status === 'waiting' || status === 'running' || status === 'evaluating' || status === 'paused';

/** Asks first; what is done so far stays. */
export function StopRunButton({ run }: { run: RunSummary }) {
  const [asking, setAsking] = useState(false);
  const stop = useAction(() => api.coordinator.stopRun.mutate({ runId: run.id }), {
    changes: ['coordinator', 'run', 'audit'],
    success: () => 'The run is stopped.',
    onSuccess: () => setAsking(false),
    ownErrors: true,
  });
  if (!isActive(run)) return null;
  return (
    <>
      <RoleButton
        needs={['approver']}
        color="red"
        variant="light"
        size="xs"
        leftSection={<IconPlayerStop size={14} aria-hidden />}
        onClick={() => setAsking(true)}
      >
        Stop
      </RoleButton>
      <ConfirmDialog
        opened={asking}
        danger
        title="Stop this run?"
        confirmLabel="Stop the run"
        busy={stop.isPending}
        error={stop.error}
        onConfirm={() => stop.mutate(undefined)}
        onClose={() => setAsking(false)}
      >
        <Text size="sm">
          Sites stop training at once. The rounds that are done and their adapters are kept, but a stopped run
          cannot be resumed.
        </Text>
      </ConfirmDialog>
    </>
  );
}
