import { Alert, Button, Group, Modal, NativeSelect, Stack, Text, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { PurposeConsent, SubjectDetail } from '../../core/api/subject-contract.ts';
import { defaultPurpose } from '../../core/config/consent-defaults.ts';
import type { ConsentGiver } from '../../core/store/records.ts';
import { useAction } from '../api/action.ts';
import { recordConsent } from '../api/consents.ts';
import { Disclosure } from '../components/disclosure.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { giverWords, termWords } from '../format/consent-words.ts';
import { formatDateTime, todayIsoDate } from '../format/format.ts';

/** First consent to a purpose; longer or shorter term of one that holds; a new consent of somebody who has withdrawn. */
export type RecordMode = 'record' | 'renew' | 'shorten' | 'after-withdrawal';

interface RecordConsentDialogProps {
  subject: Pick<SubjectDetail, 'pseudonym'>;
  mode: RecordMode;
  /** The purpose as it stands; null asks for one. */
  purpose: PurposeConsent | null;
  onClose: () => void;
}

const titles: Record<RecordMode, string> = {
  record: 'Record a consent of',
  renew: 'Renew the consent of',
  shorten: 'Shorten the consent of',
  'after-withdrawal': 'Record a new consent of',
};
const buttons: Record<RecordMode, string> = {
  record: 'Record consent',
  renew: 'Renew consent',
  shorten: 'Shorten consent',
  'after-withdrawal': 'Record new consent',
};

/** What the form begins with: nothing at all after a withdrawal, so that two clicks bring nobody back. */
function initialValues(mode: RecordMode, purpose: PurposeConsent | null) {
  const term = mode === 'after-withdrawal' ? null : (purpose?.term ?? purpose?.next ?? null);
  return {
    purpose: purpose?.purpose ?? defaultPurpose,
    documentVersion: mode === 'shorten' ? (term?.documentVersion ?? '') : '',
    validFrom: mode === 'record' ? todayIsoDate() : mode === 'shorten' ? (term?.firstDay ?? '') : '',
    expiresAt: '',
    givenBy: '' as ConsentGiver | '',
    verifiedOn: '',
    reference: '',
  };
}

/** A consent that was given on paper, entered with its version and its term. */
export function RecordConsentDialog({ subject, mode, purpose, onClose }: RecordConsentDialogProps) {
  const { pseudonym } = subject;
  const form = useForm({
    initialValues: initialValues(mode, purpose),
    validate: {
      purpose: (text) => (text.trim() === '' ? 'Name what the consent allows.' : null),
      documentVersion: (version) =>
        version.trim() === '' ? 'Give the version that is printed on the signed form.' : null,
      validFrom: (day) => (day === '' ? 'Choose the day from which the consent holds.' : null),
      expiresAt: (day, { validFrom }) =>
        day === ''
          ? mode === 'shorten'
            ? 'Choose the last day.'
            : null
          : day < validFrom
            ? 'The consent would end before it begins.'
            : null,
    },
  });
  const record = useAction(
    (values: typeof form.values) =>
      recordConsent({
        pseudonym,
        values,
        afterWithdrawal: mode === 'after-withdrawal' ? purpose?.withdrawal?.id : undefined,
      }),
    {
      changes: ['dataset', 'site', 'audit'],
      ownErrors: true,
      success: () => `Consent of ${pseudonym} recorded.`,
      onSuccess: onClose,
    },
  );
  return (
    <Modal opened onClose={onClose} title={`${titles[mode]} ${pseudonym}`}>
      <form noValidate onSubmit={form.onSubmit((values) => record.mutate(values))}>
        <Stack>
          <Introduction mode={mode} purpose={purpose} />
          {purpose === null && (
            <TextInput
              label="Purpose"
              description="Runs ask for exactly this word."
              {...form.getInputProps('purpose')}
            />
          )}
          <TextInput
            label="Version of the consent form"
            placeholder="v2.1"
            data-autofocus
            {...form.getInputProps('documentVersion')}
          />
          <Group grow align="flex-start">
            <TextInput
              type="date"
              label={mode === 'after-withdrawal' ? 'Given on' : 'Valid from'}
              {...form.getInputProps('validFrom')}
            />
            <TextInput
              type="date"
              label={mode === 'shorten' ? 'Last day' : 'Last day (if any)'}
              {...form.getInputProps('expiresAt')}
            />
          </Group>
          <Disclosure label="Who signed, and where the form is">
            {() => (
              <Stack gap="sm" mt="xs">
                <NativeSelect
                  label="Given by"
                  data={[
                    { value: '', label: 'not said' },
                    ...Object.entries(giverWords).map(([value, label]) => ({ value, label })),
                  ]}
                  {...form.getInputProps('givenBy')}
                />
                <TextInput
                  type="date"
                  label="Checked with them on (if it was)"
                  {...form.getInputProps('verifiedOn')}
                />
                <TextInput
                  label="Reference of the form (if any)"
                  description="Such as its number in the archive; no name."
                  {...form.getInputProps('reference')}
                />
              </Stack>
            )}
          </Disclosure>
          {record.isError && <ErrorPanel error={record.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={record.isPending}>
              {buttons[mode]}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

function Introduction({ mode, purpose }: { mode: RecordMode; purpose: PurposeConsent | null }) {
  const entered =
    'Enter what is on the signed form. You cannot change the entry later; you can only add a newer one.';
  const term = purpose?.term ?? purpose?.next ?? null;
  if (mode === 'after-withdrawal' && purpose?.withdrawal)
    return (
      <Alert color="red" icon={<IconAlertTriangle aria-hidden />} title="This person has withdrawn">
        <Text size="sm">
          The consent to {purpose.purpose} was withdrawn on {formatDateTime(purpose.withdrawal.validFrom)},
          recorded by {purpose.withdrawal.recordedBy}. Go on only with a new form that was signed after that:
          enter its own date and version.
        </Text>
      </Alert>
    );
  return (
    <Stack gap={4}>
      {purpose !== null && (
        <Text size="sm">
          {purpose.purpose}
          {term !== null && <>, now {termWords(term)}</>}
        </Text>
      )}
      <Text size="sm" c="dimmed">
        {mode === 'shorten'
          ? 'From now on the consent ends with the last day that you enter. Training that is using images beyond it stops.'
          : entered}
      </Text>
    </Stack>
  );
}
