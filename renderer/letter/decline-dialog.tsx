import { Button, Group, Modal, Stack, Text, Textarea } from '@mantine/core';
import { useForm } from '@mantine/form';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { decisionChanges } from './decision-changes.ts';

const longestReason = 400;

interface DeclineDialogProps {
  contractSha256: string;
  /** Whether somebody here had approved the run. */
  takesBack: boolean;
  onClose: () => void;
}

/** Says no to a run, with the reason that the coordinator gets to see. */
export function DeclineDialog({ contractSha256, takesBack, onClose }: DeclineDialogProps) {
  const form = useForm({
    initialValues: { reason: '' },
    validate: {
      reason: (reason) => (reason.trim() === '' ? 'Say why, so that the coordinator can answer it.' : null),
    },
  });
  const decline = useAction((reason: string) => api.site.decline.mutate({ contractSha256, reason }), {
    changes: decisionChanges,
    success: () => 'Declined. The coordinator sees the reason.',
    onSuccess: onClose,
    ownErrors: true,
  });
  return (
    <Modal opened onClose={onClose} title={takesBack ? 'Take your approval back' : 'Decline this run'}>
      <form noValidate onSubmit={form.onSubmit(({ reason }) => decline.mutate(reason.trim()))}>
        <Stack>
          <Text size="sm">
            {takesBack
              ? 'A round in progress ends here and nothing more is sent. What the coordinator has received already stays in the shared model.'
              : 'Nothing is trained or sent. The other sites continue without this one. You can change your mind while the run goes on.'}
          </Text>
          <Textarea
            label="Reason"
            description="The coordinator sees it, and it is kept in the audit trail. Name no patient."
            withAsterisk
            autosize
            minRows={2}
            maxLength={longestReason}
            data-autofocus
            {...form.getInputProps('reason')}
          />
          {decline.isError && <ErrorPanel error={decline.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" color="red.9" loading={decline.isPending}>
              {takesBack ? 'Take it back' : 'Decline the run'}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
