import { Badge, Button, Card, Group, Table, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconSearch, IconUsers } from '@tabler/icons-react';
import { useState } from 'react';
import type { SubjectRow } from '../../core/api/contract.ts';
import { useSubjects } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Paged } from '../components/paged.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatCount, formatDate, formatPlural } from '../format/format.ts';
import { consentWords } from '../format/words.ts';
import { RecordConsentDialog, WithdrawConsentDialog } from './consent-dialogs.tsx';
import { TraceDrawer } from './trace-drawer.tsx';

type Open = { what: 'record' | 'withdraw' | 'trace'; subject: SubjectRow } | null;

export function SubjectsPanel({ onImport }: { onImport: () => void }) {
  const [search, setSearch] = useState('');
  const [asked] = useDebouncedValue(search.trim(), 200);
  const subjects = useSubjects(asked);
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  return (
    <Card>
      <Loaded query={subjects}>
        {(rows) =>
          rows.length === 0 && asked === '' ? (
            <EmptyState
              icon={IconUsers}
              title="No subjects yet"
              action={<Button onClick={onImport}>Add images</Button>}
            >
              Add a folder of photographs with a CSV file. Subjects appear here under their pseudonym, with
              the state of their consent.
            </EmptyState>
          ) : (
            <>
              <Group justify="space-between" mb="md">
                <TextInput
                  aria-label="Search subjects"
                  placeholder="Search by pseudonym or label"
                  leftSection={<IconSearch size={16} aria-hidden />}
                  value={search}
                  onChange={(event) => setSearch(event.currentTarget.value)}
                  w={320}
                />
                <Text size="sm" c="dimmed" role="status">
                  {formatPlural(rows.length, 'subject')}
                  {asked !== '' && ` for “${asked}”`}
                </Text>
              </Group>
              <Paged rows={rows} resetKey={asked}>
                {(visible) => <SubjectsTable rows={visible} onOpen={setOpen} />}
              </Paged>
            </>
          )
        }
      </Loaded>
      {open?.what === 'record' && <RecordConsentDialog subject={open.subject} onClose={close} />}
      {open?.what === 'withdraw' && <WithdrawConsentDialog subject={open.subject} onClose={close} />}
      {open?.what === 'trace' && <TraceDrawer pseudonym={open.subject.pseudonym} onClose={close} />}
    </Card>
  );
}

interface SubjectsTableProps {
  rows: readonly SubjectRow[];
  onOpen: (open: Open) => void;
}

function SubjectsTable({ rows, onOpen }: SubjectsTableProps) {
  return (
    <Table highlightOnHover aria-label="Subjects">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Pseudonym</Table.Th>
          <Table.Th ta="right">Images</Table.Th>
          <Table.Th>Labels</Table.Th>
          <Table.Th>Consent</Table.Th>
          <Table.Th>Valid until</Table.Th>
          <Table.Th>
            <span className="visually-hidden">Actions</span>
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((subject) => (
          <Table.Tr key={subject.pseudonym}>
            <Table.Td fw={600}>{subject.pseudonym}</Table.Td>
            <Table.Td ta="right" className="numbers">
              {formatCount(subject.images)}
            </Table.Td>
            <Table.Td>
              <Group gap={4}>
                {subject.labels.map((label) => (
                  <Badge key={label} variant="outline" color="gray">
                    {label}
                  </Badge>
                ))}
              </Group>
            </Table.Td>
            <Table.Td>
              <StatusBadge word={consentWords[subject.consent]} />
            </Table.Td>
            <Table.Td className="numbers">{validUntil(subject)}</Table.Td>
            <Table.Td>
              <SubjectActions subject={subject} onOpen={onOpen} />
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** The end of a consent that holds or has held; that of a withdrawn one would mislead. */
function validUntil({ consent, expiresAt }: SubjectRow): string {
  if (consent === 'withdrawn' || consent === 'none') return '–';
  return expiresAt === null ? 'no end date' : formatDate(expiresAt);
}

function SubjectActions({ subject, onOpen }: { subject: SubjectRow; onOpen: (open: Open) => void }) {
  const active = subject.consent === 'active' || subject.consent === 'not-yet-valid';
  return (
    <Group gap={4} justify="flex-end" wrap="nowrap">
      <Button
        size="compact-sm"
        variant="subtle"
        aria-label={`Which runs is ${subject.pseudonym} in?`}
        onClick={() => onOpen({ what: 'trace', subject })}
      >
        Which runs?
      </Button>
      {active ? (
        <Button
          size="compact-sm"
          variant="subtle"
          color="red"
          aria-label={`Withdraw the consent of ${subject.pseudonym}`}
          onClick={() => onOpen({ what: 'withdraw', subject })}
        >
          Withdraw…
        </Button>
      ) : (
        <Button
          size="compact-sm"
          variant="subtle"
          aria-label={`Record a consent of ${subject.pseudonym}`}
          onClick={() => onOpen({ what: 'record', subject })}
        >
          Record consent…
        </Button>
      )}
    </Group>
  );
}
