import {
  Alert,
  Badge,
  Button,
  Card,
  Group,
  NativeSelect,
  Stack,
  Table,
  Text,
  TextInput,
} from '@mantine/core';
import { IconCalendarClock, IconSearch, IconUsers } from '@tabler/icons-react';
import { useState } from 'react';
import type { PurposeConsent, SubjectRow } from '../../core/api/contract.ts';
import { noticeDays } from '../../core/config/consent-defaults.ts';
import { useSubjects } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Paged } from '../components/paged.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { SubjectLink } from '../components/subject-link.tsx';
import { holdsOrWill, validWords } from '../format/consent-words.ts';
import { formatCount, formatPlural } from '../format/format.ts';
import {
  choicesOf,
  endsSoon,
  filterSubjects,
  noFilter,
  type SubjectFilter,
  stateWord,
} from '../format/subject-filter.ts';
import { consentWords } from '../format/words.ts';
import { TraceDrawer } from './trace-drawer.tsx';
import { WithdrawConsentDialog } from './withdraw-dialog.tsx';

type Open = { what: 'withdraw' | 'trace'; subject: SubjectRow } | null;

export function SubjectsPanel({ onImport }: { onImport: () => void }) {
  const subjects = useSubjects('');
  return (
    <Loaded query={subjects}>
      {(rows) =>
        rows.length === 0 ? (
          <Card>
            <EmptyState
              icon={IconUsers}
              title="No subjects yet"
              action={<Button onClick={onImport}>Add images</Button>}
            >
              Add a folder of photographs with a CSV file. Subjects appear here under their pseudonym, with
              the state of their consent.
            </EmptyState>
          </Card>
        ) : (
          <Listed rows={rows} />
        )
      }
    </Loaded>
  );
}

function Listed({ rows }: { rows: readonly SubjectRow[] }) {
  const [filter, setFilter] = useState<SubjectFilter>(noFilter);
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const shown = filterSubjects(rows, filter);
  const ending = rows.filter(({ consents }) => consents.some((consent) => endsSoon(consent))).length;
  return (
    <Stack>
      {ending > 0 && filter.status !== 'ends-soon' && (
        <Alert color="yellow" icon={<IconCalendarClock aria-hidden />}>
          <Group justify="space-between">
            <Text size="sm">
              Consents of {formatPlural(ending, 'subject')} end within {noticeDays} days.
            </Text>
            <Button
              size="compact-sm"
              variant="default"
              onClick={() => setFilter({ ...noFilter, status: 'ends-soon' })}
            >
              Show them
            </Button>
          </Group>
        </Alert>
      )}
      <Card>
        <Filters rows={rows} filter={filter} onChange={setFilter} />
        <Text size="sm" c="dimmed" role="status" mb="xs">
          {formatPlural(shown.length, 'subject')}
          {shown.length < rows.length && ` of ${formatCount(rows.length)}`}
        </Text>
        <Paged rows={shown} resetKey={JSON.stringify(filter)}>
          {(visible) => <SubjectsTable rows={visible} onOpen={setOpen} />}
        </Paged>
      </Card>
      {open?.what === 'withdraw' && (
        <WithdrawConsentDialog
          subject={{ pseudonym: open.subject.pseudonym, images: open.subject.images }}
          purpose={null}
          onClose={close}
        />
      )}
      {open?.what === 'trace' && <TraceDrawer pseudonym={open.subject.pseudonym} onClose={close} />}
    </Stack>
  );
}

interface FiltersProps {
  rows: readonly SubjectRow[];
  filter: SubjectFilter;
  onChange: (filter: SubjectFilter) => void;
}

function Filters({ rows, filter, onChange }: FiltersProps) {
  const { purposes, labels } = choicesOf(rows);
  const set = (part: Partial<SubjectFilter>) => onChange({ ...filter, ...part });
  const states = Object.entries(consentWords).map(([value, { label }]) => ({ value, label }));
  return (
    <Group mb="md" align="flex-end">
      <TextInput
        label="Search subjects"
        placeholder="Search by pseudonym or label"
        leftSection={<IconSearch size={16} aria-hidden />}
        value={filter.search}
        onChange={(event) => set({ search: event.currentTarget.value })}
        style={{ flex: '1 1 220px' }}
      />
      <NativeSelect
        label="State"
        value={filter.status}
        onChange={(event) => set({ status: event.currentTarget.value as SubjectFilter['status'] })}
        data={[
          { value: '', label: 'Any state' },
          { value: 'ends-soon', label: `Ends within ${noticeDays} days` },
          ...states,
        ]}
      />
      {purposes.length > 1 && (
        <NativeSelect
          label="Purpose"
          value={filter.purpose}
          onChange={(event) => set({ purpose: event.currentTarget.value })}
          data={[{ value: '', label: 'Any purpose' }, ...purposes]}
        />
      )}
      {labels.length > 1 && (
        <NativeSelect
          label="Label"
          value={filter.label}
          onChange={(event) => set({ label: event.currentTarget.value })}
          data={[{ value: '', label: 'Any label' }, ...labels]}
        />
      )}
      {JSON.stringify(filter) !== JSON.stringify(noFilter) && (
        <Button variant="subtle" onClick={() => onChange(noFilter)}>
          Clear
        </Button>
      )}
    </Group>
  );
}

interface SubjectsTableProps {
  rows: readonly SubjectRow[];
  onOpen: (open: Open) => void;
}

function SubjectsTable({ rows, onOpen }: SubjectsTableProps) {
  return (
    <Table.ScrollContainer minWidth={620} type="native">
      <Table highlightOnHover aria-label="Subjects">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Pseudonym</Table.Th>
            <Table.Th ta="right">Images</Table.Th>
            <Table.Th>Labels</Table.Th>
            <Table.Th>Consent, by purpose</Table.Th>
            <Table.Th>
              <span className="visually-hidden">Actions</span>
            </Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((subject) => (
            <Table.Tr key={subject.pseudonym}>
              <Table.Td>
                <SubjectLink pseudonym={subject.pseudonym} strong />
              </Table.Td>
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
                <Purposes consents={subject.consents} />
              </Table.Td>
              <Table.Td>
                <SubjectActions subject={subject} onOpen={onOpen} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Purposes({ consents }: { consents: readonly PurposeConsent[] }) {
  if (consents.length === 0) return <StatusBadge word={consentWords.none} />;
  return (
    <Stack gap={4}>
      {consents.map((consent) => (
        <Group key={consent.purpose} gap={6}>
          <StatusBadge word={stateWord(consent)} />
          <Text size="sm">{consent.purpose === '*' ? 'every purpose' : consent.purpose}</Text>
          <Text size="sm" c="dimmed" className="numbers">
            {validWords(consent)}
          </Text>
        </Group>
      ))}
    </Stack>
  );
}

function SubjectActions({ subject, onOpen }: { subject: SubjectRow; onOpen: (open: Open) => void }) {
  const holds = subject.consents.some(holdsOrWill);
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
      {holds && (
        <RoleButton
          needs={['data-manager']}
          size="compact-sm"
          variant="subtle"
          color="red"
          aria-label={`Withdraw the consent of ${subject.pseudonym}`}
          onClick={() => onOpen({ what: 'withdraw', subject })}
        >
          Withdraw…
        </RoleButton>
      )}
    </Group>
  );
}
