import { Badge, Button, Card, Group, Stack, Table, Text } from '@mantine/core';
import { IconFileCertificate, IconHistory, IconLink, IconLinkOff } from '@tabler/icons-react';
import { useState } from 'react';
import type { AuditPage, AuditRow } from '../../core/api/contract.ts';
import { useAudit } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Waiting } from '../components/loaded.tsx';
import { Page } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { actionWords, detailWords } from '../format/audit-words.ts';
import { formatDateTime } from '../format/format.ts';
import { ExportEvidence } from './export-evidence.tsx';

/** Who did what and when; a changed or missing entry breaks the chain of hashes. */
export function AuditScreen() {
  const audit = useAudit();
  const pages = audit.data?.pages ?? [];
  const rows = pages.flatMap((page) => page.rows);
  const verification = pages[0];
  const [exporting, setExporting] = useState(false);
  return (
    <Page
      title="Audit trail"
      subtitle="Every step that matters, newest first. Entries are chained, and consents are bound to them, so a change to any of them shows."
      actions={
        verification && (
          <>
            <ChainBadge intact={verification.intact} />
            <RoleButton
              needs={['data-manager']}
              variant="default"
              leftSection={<IconFileCertificate size={16} aria-hidden />}
              onClick={() => setExporting(true)}
            >
              Export evidence…
            </RoleButton>
          </>
        )
      }
    >
      {verification?.intact === false && <ErrorNotice verification={verification} />}
      {exporting && <ExportEvidence onClose={() => setExporting(false)} />}
      <Card>
        {audit.isPending && <Waiting />}
        {audit.isError && rows.length === 0 && (
          <ErrorPanel error={audit.error} onRetry={() => void audit.refetch()} />
        )}
        {audit.data && rows.length === 0 && (
          <EmptyState icon={IconHistory} title="Nothing recorded yet">
            Joining, imports, consents, approvals and rounds are listed here as they happen.
          </EmptyState>
        )}
        {rows.length > 0 && <AuditTable rows={rows} />}
        {audit.hasNextPage && (
          <Group justify="center" mt="md">
            <Button
              variant="default"
              loading={audit.isFetchingNextPage}
              onClick={() => void audit.fetchNextPage()}
            >
              Load older entries
            </Button>
          </Group>
        )}
      </Card>
    </Page>
  );
}

function ChainBadge({ intact }: { intact: boolean }) {
  const Icon = intact ? IconLink : IconLinkOff;
  return (
    <Badge size="lg" color={intact ? 'green' : 'red'} leftSection={<Icon size={15} aria-hidden />}>
      {intact ? 'Chain intact' : 'Chain broken'}
    </Badge>
  );
}

function ErrorNotice({ verification: { brokenAtSeq, brokenConsent } }: { verification: AuditPage }) {
  return (
    <Card role="alert" style={{ borderColor: 'var(--mantine-color-red-filled)' }}>
      <Stack gap={4}>
        {brokenAtSeq !== null && (
          <Text fw={650}>
            An entry of the audit trail was changed or removed outside Anneal: the chain breaks at number{' '}
            {brokenAtSeq}.
          </Text>
        )}
        {brokenConsent !== null && (
          <Text fw={650}>
            A consent was changed, added or removed outside Anneal
            {brokenConsent.seq === null ? '' : `: it is not the one of entry ${brokenConsent.seq}`}.
          </Text>
        )}
        <Text size="sm" c="dimmed">
          Keep the data folder as it is, tell whoever is responsible for data protection, and compare it with
          a backup.
        </Text>
      </Stack>
    </Card>
  );
}

function AuditTable({ rows }: { rows: AuditRow[] }) {
  return (
    <Table aria-label="Audit trail" layout="fixed">
      <Table.Thead>
        <Table.Tr>
          <Table.Th w={64} ta="right">
            No.
          </Table.Th>
          <Table.Th w={170}>When</Table.Th>
          <Table.Th w={130}>Who</Table.Th>
          <Table.Th w={200}>What</Table.Th>
          <Table.Th>Details</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((row) => (
          <Table.Tr key={row.seq}>
            <Table.Td ta="right" className="numbers">
              {row.seq}
            </Table.Td>
            <Table.Td className="numbers">{formatDateTime(row.at)}</Table.Td>
            <Table.Td>{row.actor}</Table.Td>
            <Table.Td>{actionWords(row.action)}</Table.Td>
            <Table.Td>
              <Details text={detailWords(row.details)} />
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** Long details show three lines until they are asked for. */
function Details({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const long = text.length > 160;
  return (
    <>
      <Text
        size="xs"
        c="dimmed"
        style={{ overflowWrap: 'anywhere' }}
        {...(long && !whole && { lineClamp: 3 })}
      >
        {text}
      </Text>
      {long && (
        <Button size="compact-xs" variant="subtle" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? 'Show less' : 'Show all'}
        </Button>
      )}
    </>
  );
}
