import { Box, Text } from '@mantine/core';
import { useState } from 'react';
import type { Restored } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatDate, formatPlural } from '../format/format.ts';

/** What a person has to do after the data of this site was put back to an earlier state. */
export function ConfirmRestore({ restored: { missing, since } }: { restored: Restored }) {
  const [asking, setAsking] = useState(false);
  const confirm = useAction(() => api.site.confirmRestore.mutate(), {
    changes: ['site', 'audit'],
    success: () => 'This site takes part in rounds again.',
    onSuccess: () => setAsking(false),
    ownErrors: true,
  });
  return (
    <Box style={{ flexShrink: 0 }}>
      <RoleButton needs={['approver']} onClick={() => setAsking(true)}>
        Confirm the restored data…
      </RoleButton>
      <ConfirmDialog
        opened={asking}
        title="Go on with the restored data?"
        confirmLabel="Consents are complete: go on"
        busy={confirm.isPending}
        error={confirm.error}
        onConfirm={() => confirm.mutate(undefined)}
        onClose={() => setAsking(false)}
      >
        <Text size="sm">
          {missing === null
            ? 'How much is missing is not known yet.'
            : missing === 0
              ? 'The coordinator knows of no entry that is missing.'
              : `At least ${formatPlural(missing, 'entry', 'entries')} of the audit trail ${missing === 1 ? 'is' : 'are'} missing here.`}
          {since !== null && ` Certain is only what was recorded until ${formatDate(since)}.`}
        </Text>
        <Text size="sm">
          Record every withdrawal since then again before you go on: the coordinator never hears who has
          withdrawn, so nobody else can tell you. Images of somebody whose withdrawal is missing here would be
          used.
        </Text>
      </ConfirmDialog>
    </Box>
  );
}
