import { Button, Group, Modal, NumberInput, Stack, Text, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { CopyText } from '../components/copy-text.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { formatDateTime } from '../format/format.ts';

/** Makes an invitation and shows it once: it holds a token that is not stored readable. */
export function InviteDialog({ onClose }: { onClose: () => void }) {
  const form = useForm<{ siteName: string; validHours: number | string }>({
    initialValues: { siteName: '', validHours: 72 },
    validate: {
      siteName: (name) => (name.trim() === '' ? 'Name the site so that you recognise it later.' : null),
      validHours: (hours) => (typeof hours === 'number' && hours > 0 ? null : 'Give a number of hours.'),
    },
  });
  const invite = useAction(
    ({ siteName, validHours }: typeof form.values) =>
      api.coordinator.invite.mutate({ siteName: siteName.trim(), validHours: Number(validHours) }),
    { changes: ['coordinator', 'audit'], ownErrors: true },
  );
  if (invite.data) {
    return (
      <Modal opened onClose={onClose} title={`Invitation for ${form.values.siteName.trim()}`} size="lg">
        <Stack>
          <Text size="sm">
            Send this text to the site’s data manager. It works once, until{' '}
            {formatDateTime(invite.data.expiresAt)}. Anneal does not show it again.
          </Text>
          <CopyText text={invite.data.invitation} label="Invitation" />
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Done
            </Button>
          </Group>
        </Stack>
      </Modal>
    );
  }
  return (
    <Modal opened onClose={onClose} title="Invite a site">
      <form noValidate onSubmit={form.onSubmit((values) => invite.mutate(values))}>
        <Stack>
          <TextInput
            label="Name of the site"
            placeholder="University Hospital, Genetics"
            maxLength={80}
            data-autofocus
            {...form.getInputProps('siteName')}
          />
          <NumberInput
            label="Valid for (hours)"
            min={1}
            max={720}
            allowDecimal={false}
            {...form.getInputProps('validHours')}
          />
          {invite.isError && <ErrorPanel error={invite.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={invite.isPending}>
              Make invitation
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
