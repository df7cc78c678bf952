import { Checkbox, List, Text, TextInput } from '@mantine/core';
import { useState } from 'react';
import { useAction } from '../api/action.ts';
import { withdrawConsent } from '../api/consents.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { formatPlural, todayIsoDate } from '../format/format.ts';

interface WithdrawConsentDialogProps {
  /** `images`: ready ones. */
  subject: { pseudonym: string; images: number };
  /** Null: every purpose. */
  purpose: string | null;
  onClose: () => void;
}

/** Takes effect at once; says so first. */
export function WithdrawConsentDialog({ subject, purpose, onClose }: WithdrawConsentDialogProps) {
  const { pseudonym, images } = subject;
  const [date, setDate] = useState('');
  const [keepImages, setKeepImages] = useState(false);
  const withdraw = useAction(
    () =>
      withdrawConsent({
        pseudonym,
        ...(purpose !== null && { purpose }),
        ...(date !== '' && { date }),
        keepImages,
      }),
    {
      changes: ['dataset', 'site', 'audit'],
      ownErrors: true,
      success: () => `Consent of ${pseudonym} withdrawn.`,
      onSuccess: onClose,
    },
  );
  const what = purpose === null ? 'all consents' : `the consent to ${purpose}`;
  return (
    <ConfirmDialog
      opened
      danger
      title={`Withdraw ${what} of ${pseudonym}?`}
      confirmLabel="Withdraw consent"
      busy={withdraw.isPending}
      error={withdraw.error}
      onConfirm={() => withdraw.mutate(undefined)}
      onClose={onClose}
    >
      <Text size="sm">What happens:</Text>
      <List size="sm" spacing={4} withPadding>
        <List.Item>
          {formatPlural(images, 'image')} of this subject {images === 1 ? 'is' : 'are'} no longer used
          {purpose === null ? '' : ` for ${purpose}`}, from now on.
        </List.Item>
        <List.Item>Training that is using them stops and starts again without them.</List.Item>
        <List.Item>When no consent holds any more, the face crops are deleted from this site.</List.Item>
        <List.Item>
          Adapters that were merged earlier stay as they are. “Which runs?” shows which ones the subject took
          part in.
        </List.Item>
        <List.Item>
          The withdrawal is written to the audit trail. Only a new consent, with its own date and form, can
          follow it.
        </List.Item>
      </List>
      <TextInput
        type="date"
        label="Withdrawn on (if before today)"
        description="It takes effect now in any case; consents given before this day do not count any more."
        max={todayIsoDate()}
        value={date}
        onChange={(event) => setDate(event.currentTarget.value)}
      />
      <Checkbox
        label="Keep the face crops, as the person wishes"
        description="Nothing uses them; they would be there for a new consent."
        checked={keepImages}
        onChange={(event) => setKeepImages(event.currentTarget.checked)}
      />
    </ConfirmDialog>
  );
}
