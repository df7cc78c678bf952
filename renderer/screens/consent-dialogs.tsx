import { Button, Group, List, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import type { SubjectRow } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { formatPlural, todayIsoDate } from '../format/format.ts';

interface DialogProps {
  subject: SubjectRow;
  onClose: () => void;
}

const changes = ['dataset', 'site', 'audit'];

/** A consent that was given on paper, entered with its version and its term. */
export function RecordConsentDialog({ subject, onClose }: DialogProps) {
  const form = useForm({
    initialValues: {
      purpose: subject.purpose ?? 'federated-training',
      documentVersion: subject.documentVersion ?? '',
      validFrom: todayIsoDate(),
      expiresAt: '',
    },
    validate: {
      purpose: (purpose) => (purpose.trim() === '' ? 'Name what the consent allows.' : null),
      documentVersion: (version) =>
        version.trim() === '' ? 'Give the version that is printed on the signed form.' : null,
      validFrom: (day) => (day === '' ? 'Choose the day from which the consent holds.' : null),
      expiresAt: (day, values) =>
        day !== '' && day <= values.validFrom ? 'The consent would end before it begins.' : null,
    },
  });
  const record = useAction(
    ({ expiresAt, ...values }: typeof form.values) =>
      api.site.recordConsent.mutate({
        pseudonym: subject.pseudonym,
        ...values,
        ...(expiresAt !== '' && { expiresAt }),
      }),
    {
      changes,
      ownErrors: true,
      success: () => `Consent of ${subject.pseudonym} recorded.`,
      onSuccess: onClose,
    },
  );
  return (
    <Modal opened onClose={onClose} title={`Record a consent of ${subject.pseudonym}`}>
      <form noValidate onSubmit={form.onSubmit((values) => record.mutate(values))}>
        <Stack>
          <Text size="sm" c="dimmed">
            Enter what is on the signed form. You cannot change the entry later; you can only add a newer one.
          </Text>
          <TextInput
            label="Version of the consent form"
            placeholder="v2.1"
            data-autofocus
            {...form.getInputProps('documentVersion')}
          />
          <TextInput
            label="Purpose"
            description="Runs ask for exactly this word."
            {...form.getInputProps('purpose')}
          />
          <Group grow align="flex-start">
            <TextInput type="date" label="Valid from" {...form.getInputProps('validFrom')} />
            <TextInput type="date" label="Last day (if any)" {...form.getInputProps('expiresAt')} />
          </Group>
          {record.isError && <ErrorPanel error={record.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={record.isPending}>
              Record consent
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

/** Takes effect at once; says so first. */
export function WithdrawConsentDialog({ subject, onClose }: DialogProps) {
  const withdraw = useAction(() => api.site.withdrawConsent.mutate({ pseudonym: subject.pseudonym }), {
    changes,
    ownErrors: true,
    success: () => `Consent of ${subject.pseudonym} withdrawn.`,
    onSuccess: onClose,
  });
  return (
    <ConfirmDialog
      opened
      danger
      title={`Withdraw the consent of ${subject.pseudonym}?`}
      confirmLabel="Withdraw consent"
      busy={withdraw.isPending}
      error={withdraw.error}
      onConfirm={() => withdraw.mutate(undefined)}
      onClose={onClose}
    >
      <Text size="sm">What happens:</Text>
      <List size="sm" spacing={4} withPadding>
        <List.Item>
          {formatPlural(subject.images, 'image')} of this subject {subject.images === 1 ? 'is' : 'are'} no
          longer used, from now on.
        </List.Item>
        <List.Item>Training that is using them stops and starts again without them.</List.Item>
        <List.Item>
          Adapters that were merged earlier stay as they are. “Which runs?” shows which ones the subject took
          part in.
        </List.Item>
        <List.Item>The withdrawal is written to the audit trail and cannot be removed from it.</List.Item>
      </List>
    </ConfirmDialog>
  );
}
