import { Group, Menu, Stack, Table, Text } from '@mantine/core';
import { IconChevronDown, IconPlus } from '@tabler/icons-react';
import { useState } from 'react';
import type { PurposeConsent, SubjectDetail } from '../../core/api/subject-contract.ts';
import { Section } from '../components/page.tsx';
import { RoleButton, RoleMenu } from '../components/role-button.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { holdsOrWill, purposeNote, termEnd, termStart } from '../format/consent-words.ts';
import { stateWord } from '../format/subject-filter.ts';
import { RecordConsentDialog, type RecordMode } from '../screens/consent-dialogs.tsx';
import { WithdrawConsentDialog } from '../screens/withdraw-dialog.tsx';

type Open =
  | { what: RecordMode; purpose: PurposeConsent | null }
  | { what: 'withdraw'; purpose: string | null };

/** Who may record and withdraw. */
const managers = ['data-manager'] as const;

/** What the subject agrees to now, purpose by purpose, and what can be done about it. */
export function SubjectConsents({ subject }: { subject: SubjectDetail }) {
  const [open, setOpen] = useState<Open | null>(null);
  const close = () => setOpen(null);
  // A refusal of every purpose by somebody who never consented is in the history.
  const purposes = subject.consents.filter(({ purpose }) => purpose !== '*');
  const several = purposes.filter(holdsOrWill).length > 1;
  return (
    <Section
      title="Consent"
      description="Each purpose stands for itself. A run uses the images only while the consent to its purpose is active."
      actions={
        <Group gap="xs">
          {several && (
            <RoleButton
              needs={managers}
              variant="subtle"
              color="red"
              onClick={() => setOpen({ what: 'withdraw', purpose: null })}
            >
              Withdraw all…
            </RoleButton>
          )}
          <RoleButton
            needs={managers}
            variant={purposes.length === 0 ? 'filled' : 'default'}
            leftSection={<IconPlus size={16} aria-hidden />}
            onClick={() => setOpen({ what: 'record', purpose: null })}
          >
            {purposes.length === 0 ? 'Record consent…' : 'Another purpose…'}
          </RoleButton>
        </Group>
      }
    >
      {purposes.length === 0 ? (
        <Text size="sm" c="dimmed">
          No consent is recorded. The images of this subject are kept and never used.
        </Text>
      ) : (
        <PurposesTable purposes={purposes} onOpen={setOpen} />
      )}
      {open?.what === 'withdraw' && (
        <WithdrawConsentDialog
          subject={{ pseudonym: subject.pseudonym, images: subject.images.train + subject.images.test }}
          purpose={open.purpose}
          onClose={close}
        />
      )}
      {open !== null && open.what !== 'withdraw' && (
        <RecordConsentDialog subject={subject} mode={open.what} purpose={open.purpose} onClose={close} />
      )}
    </Section>
  );
}

interface PurposesTableProps {
  purposes: readonly PurposeConsent[];
  onOpen: (open: Open) => void;
}

function PurposesTable({ purposes, onOpen }: PurposesTableProps) {
  return (
    <Table.ScrollContainer minWidth={560} type="native">
      <Table aria-label="Consent by purpose">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Purpose</Table.Th>
            <Table.Th>State</Table.Th>
            <Table.Th>From</Table.Th>
            <Table.Th>Last day</Table.Th>
            <Table.Th>Form</Table.Th>
            <Table.Th>
              <span className="visually-hidden">Actions</span>
            </Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {purposes.map((purpose) => (
            <PurposeRow key={purpose.purpose} purpose={purpose} onOpen={onOpen} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function PurposeRow({ purpose, onOpen }: { purpose: PurposeConsent; onOpen: (open: Open) => void }) {
  const { term } = purpose;
  const note = purposeNote(purpose);
  return (
    <Table.Tr>
      <Table.Td fw={600}>{purpose.purpose}</Table.Td>
      <Table.Td>
        <Stack gap={2} align="flex-start">
          <StatusBadge word={stateWord(purpose)} />
          {note !== null && (
            <Text size="xs" c="dimmed">
              {note}
            </Text>
          )}
        </Stack>
      </Table.Td>
      <Table.Td className="numbers days">{term === null ? '–' : termStart(term)}</Table.Td>
      <Table.Td className="numbers days">{term === null ? '–' : termEnd(term)}</Table.Td>
      <Table.Td>{term?.documentVersion ?? '–'}</Table.Td>
      <Table.Td>
        <PurposeActions purpose={purpose} onOpen={onOpen} />
      </Table.Td>
    </Table.Tr>
  );
}

function PurposeActions({ purpose, onOpen }: { purpose: PurposeConsent; onOpen: (open: Open) => void }) {
  const { purpose: name, status } = purpose;
  if (!holdsOrWill(purpose)) {
    const what = status === 'withdrawn' ? 'after-withdrawal' : status === 'expired' ? 'renew' : 'record';
    const label = { 'after-withdrawal': 'New consent…', renew: 'Renew…', record: 'Record consent…' }[what];
    return (
      <Group justify="flex-end">
        <RoleButton
          needs={managers}
          size="compact-sm"
          variant="subtle"
          aria-label={`${label.replace('…', '')}: ${name}`}
          onClick={() => onOpen({ what, purpose })}
        >
          {label}
        </RoleButton>
      </Group>
    );
  }
  return (
    <Group justify="flex-end">
      <RoleMenu
        needs={managers}
        size="compact-sm"
        variant="subtle"
        rightSection={<IconChevronDown size={14} aria-hidden />}
        aria-label={`Change the consent to ${name}`}
        items={
          <>
            <Menu.Item onClick={() => onOpen({ what: 'renew', purpose })}>Renew…</Menu.Item>
            <Menu.Item onClick={() => onOpen({ what: 'shorten', purpose })}>Shorten…</Menu.Item>
            <Menu.Divider />
            <Menu.Item color="red" onClick={() => onOpen({ what: 'withdraw', purpose: name })}>
              Withdraw…
            </Menu.Item>
          </>
        }
      >
        Change
      </RoleMenu>
    </Group>
  );
}
