import { Group, Stack, Text } from '@mantine/core';
import { useState } from 'react';
import type { ApprovalCard, DecisionRow } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { approver, decisionChanges, waitsForSecond } from './decision-changes.ts';
import { DeclineDialog } from './decline-dialog.tsx';
import { LimitsDialog } from './limits-dialog.tsx';

interface LetterAnswerProps {
  card: ApprovalCard;
  /** What was said last to this contract; null when nobody has decided. */
  decided: DecisionRow['kind'] | null;
}

/** What can be said to a letter. */
export function LetterAnswer({ card, decided }: LetterAnswerProps) {
  const [asking, setAsking] = useState<'limits' | 'decline' | null>(null);
  const { contractSha256 } = card;
  const approve = useAction(() => api.site.approve.mutate({ contractSha256 }), {
    changes: decisionChanges,
    success: ({ proposed }) =>
      proposed === null ? 'Approved. Training starts with the next round.' : waitsForSecond,
    ownErrors: true,
  });
  const isApproved = decided !== null && decided !== 'declined';
  const close = () => setAsking(null);
  return (
    <Stack>
      {approve.isError && <ErrorPanel error={approve.error} />}
      <Group>
        {!isApproved && (
          <>
            <RoleButton
              needs={approver}
              size="md"
              loading={approve.isPending}
              onClick={() => approve.mutate(undefined)}
            >
              Approve this run
            </RoleButton>
            <RoleButton needs={approver} size="md" variant="default" onClick={() => setAsking('limits')}>
              Approve within limits…
            </RoleButton>
          </>
        )}
        {decided !== 'declined' && (
          <RoleButton
            needs={approver}
            size="md"
            variant="subtle"
            color="red"
            onClick={() => setAsking('decline')}
          >
            {isApproved ? 'Take the approval back…' : 'Decline with a reason…'}
          </RoleButton>
        )}
      </Group>
      {!isApproved && (
        <Text size="sm" c="dimmed">
          As long as nobody approves, the other sites continue without this one.
        </Text>
      )}
      {asking === 'limits' && <LimitsDialog card={card} onClose={close} />}
      {asking === 'decline' && (
        <DeclineDialog contractSha256={contractSha256} takesBack={isApproved} onClose={close} />
      )}
    </Stack>
  );
}
