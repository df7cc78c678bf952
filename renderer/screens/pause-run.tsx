import { Alert, Group, Text } from '@mantine/core';
import { IconPlayerPause, IconPlayerPlay } from '@tabler/icons-react';
import type { RunSummary } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { RoleButton } from '../components/role-button.tsx';
import { formatDateTime } from '../format/format.ts';
import { isActive } from './stop-run.tsx';

const changes = ['coordinator', 'run', 'audit'] as const;

/** Nothing is lost by it, so it asks nothing. */
export function PauseRunButton({ run }: { run: RunSummary }) {
  const pause = useAction(() => api.coordinator.pauseRun.mutate({ runId: run.id }), {
    changes: [...changes],
    success: () => 'The run is paused.',
  });
  if (!isActive(run) || run.status === 'paused') return null;
  return (
    <RoleButton
      needs={['approver']}
      variant="light"
      size="xs"
      leftSection={<IconPlayerPause size={14} aria-hidden />}
      loading={pause.isPending}
      onClick={() => pause.mutate(undefined)}
    >
      Pause
    </RoleButton>
  );
}

/** Why a run stands still, and how it goes on; nothing for a run that does. */
export function PauseNotice({ run }: { run: RunSummary }) {
  const { pause, status } = run;
  if (pause === null && status !== 'failed') return null;
  return (
    <Alert color="yellow" icon={<IconPlayerPause aria-hidden />} title={titleOf(run)}>
      <Text size="sm">
        {pause === null
          ? 'Its rounds are kept as they were. Where its files are still there, it can go on.'
          : `Since ${formatDateTime(pause.since)} nothing happens in it, and no deadline passes. The sites keep what they have.`}
        {pause?.retryAt != null && ` It goes on by itself at ${formatDateTime(pause.retryAt)}.`}
      </Text>
      {pause?.failure && (
        <>
          <Text size="sm" fw={600} mt="xs">
            {pause.failure.message}
          </Text>
          <Text size="sm">{pause.failure.action}</Text>
        </>
      )}
      <Group mt="sm">
        <ResumeRunButton run={run} />
      </Group>
    </Alert>
  );
}

function titleOf({ pause }: RunSummary): string {
  if (pause === null) return 'This run failed';
  if (pause.kind === 'asked') return 'This run was paused by hand';
  return pause.kind === 'retry'
    ? 'Something went wrong; this run tries again'
    : 'This run waits until somebody mends something';
}

function ResumeRunButton({ run }: { run: RunSummary }) {
  const resume = useAction(() => api.coordinator.resumeRun.mutate({ runId: run.id }), {
    changes: [...changes],
    success: ({ status }) => (status === 'paused' ? 'The run is paused again.' : 'The run goes on.'),
  });
  return (
    <RoleButton
      needs={['approver']}
      variant="default"
      size="xs"
      leftSection={<IconPlayerPlay size={14} aria-hidden />}
      loading={resume.isPending}
      onClick={() => resume.mutate(undefined)}
    >
      Resume
    </RoleButton>
  );
}
