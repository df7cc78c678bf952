import { Badge, Button, Card, Group, Modal, Stack, Table, Text } from '@mantine/core';
import { IconDownload, IconPackages } from '@tabler/icons-react';
import { useState } from 'react';
import type { AdapterRow } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useAdapters } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page } from '../components/page.tsx';
import { Paged } from '../components/paged.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { formatBytes, formatCount, formatDateTime, formatHash } from '../format/format.ts';

/** The adapters that this installation holds; each can be written as PEFT files. */
export function AdaptersScreen() {
  const adapters = useAdapters();
  const [exporting, setExporting] = useState<AdapterRow | null>(null);
  return (
    <Page title="Adapters" subtitle="What training has produced. An adapter holds numbers only, no images.">
      <Card>
        <Loaded query={adapters}>
          {(rows) =>
            rows.length === 0 ? (
              <EmptyState icon={IconPackages} title="No adapter yet">
                The first one appears when the first round of a run is done.
              </EmptyState>
            ) : (
              <Paged rows={rows}>
                {(visible) => <AdaptersTable rows={visible} onExport={setExporting} />}
              </Paged>
            )
          }
        </Loaded>
      </Card>
      {exporting && <ExportDialog adapter={exporting} onClose={() => setExporting(null)} />}
    </Page>
  );
}

interface AdaptersTableProps {
  rows: readonly AdapterRow[];
  onExport: (adapter: AdapterRow) => void;
}

function AdaptersTable({ rows, onExport }: AdaptersTableProps) {
  return (
    <Table aria-label="Adapters">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Made</Table.Th>
          <Table.Th>Kind</Table.Th>
          <Table.Th>After round</Table.Th>
          <Table.Th ta="right">Rank</Table.Th>
          <Table.Th ta="right">Parameters</Table.Th>
          <Table.Th ta="right">Size</Table.Th>
          <Table.Th>Fingerprint</Table.Th>
          <Table.Th>
            <span className="visually-hidden">Actions</span>
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody className="numbers">
        {rows.map((adapter) => (
          <Table.Tr key={adapter.sha256}>
            <Table.Td>{formatDateTime(adapter.createdAt)}</Table.Td>
            <Table.Td>
              <Group gap={6}>
                {adapter.kind === 'global' ? (
                  <Badge>Shared</Badge>
                ) : (
                  <Badge color="gray">{adapter.siteId ? 'From a site' : 'Update'}</Badge>
                )}
                {adapter.withdrawn && (
                  <Badge
                    color="yellow"
                    title="Made with images of somebody who has withdrawn since, or built upon such an adapter."
                  >
                    Consent withdrawn
                  </Badge>
                )}
              </Group>
            </Table.Td>
            <Table.Td>{adapter.round < 0 ? 'start' : formatCount(adapter.round + 1)}</Table.Td>
            <Table.Td ta="right">{adapter.rank === 0 ? '–' : adapter.rank}</Table.Td>
            <Table.Td ta="right">{formatCount(adapter.parameters)}</Table.Td>
            <Table.Td ta="right">{formatBytes(adapter.sizeBytes)}</Table.Td>
            <Table.Td className="code" title={adapter.sha256}>
              {formatHash(adapter.sha256)}
            </Table.Td>
            <Table.Td ta="right">
              <RoleButton
                needs={['data-manager']}
                size="compact-sm"
                variant="subtle"
                leftSection={<IconDownload size={15} aria-hidden />}
                aria-label={`Export adapter ${formatHash(adapter.sha256)}`}
                onClick={() => onExport(adapter)}
              >
                Export…
              </RoleButton>
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function ExportDialog({ adapter, onClose }: { adapter: AdapterRow; onClose: () => void }) {
  const [folder, setFolder] = useState('');
  const run = useAction(
    () => api.exportAdapter.mutate({ sha256: adapter.sha256, runId: adapter.runId, folder: folder.trim() }),
    {
      changes: ['audit'],
      ownErrors: true,
      success: () => 'The adapter is exported.',
      onSuccess: onClose,
    },
  );
  return (
    <Modal opened onClose={onClose} title={`Export adapter ${formatHash(adapter.sha256)}`} size="lg">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          run.mutate(undefined);
        }}
      >
        <Stack>
          <Text size="sm" c="dimmed">
            Writes adapter_config.json and adapter_model.safetensors, the files that Hugging Face PEFT reads.
          </Text>
          <PathField
            label="Folder"
            description="On the machine where Anneal runs; it is made if it does not exist."
            choose="folder"
            value={folder}
            onChange={setFolder}
          />
          {adapter.withdrawn && (
            <Text size="sm">
              Somebody whose images this adapter was made with has withdrawn since. A note about that is
              written beside the files.
            </Text>
          )}
          {run.isError && <ErrorPanel error={run.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" disabled={folder.trim() === ''} loading={run.isPending}>
              Export
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
