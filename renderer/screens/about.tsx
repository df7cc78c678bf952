import {
  Badge,
  SegmentedControl,
  SimpleGrid,
  Stack,
  Table,
  Text,
  useMantineColorScheme,
} from '@mantine/core';
import type { AgentStatus } from '../../core/api/contract.ts';
import type { Device } from '../../core/engine/engine.ts';
import { useDevices } from '../api/queries.ts';
import { Fact } from '../components/figure.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { ConnectionState } from '../components/status-badge.tsx';
import { formatDateTime } from '../format/format.ts';

/** What runs here, where its data is and what it can train on. */
export function AboutScreen({ status }: { status: AgentStatus }) {
  const devices = useDevices();
  return (
    <Page title="About" subtitle="This installation of Anneal.">
      <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg">
        <Section title="Installation">
          <Stack gap="xs">
            <Fact label="Version">{status.version}</Fact>
            <Fact label="Role">{status.mode === 'site' ? 'hospital site' : 'coordinator'}</Fact>
            <Fact label="Name">{status.name ?? '–'}</Fact>
            <Fact label="Federation">{status.federation ?? '–'}</Fact>
            <Fact label="Connection">
              <ConnectionState broker={status.broker} />
            </Fact>
            <Fact label="Last backup">
              {status.lastBackupAt === null ? 'none yet' : formatDateTime(status.lastBackupAt)}
            </Fact>
            <Fact label="Data folder">
              <span className="code">{status.dataFolder}</span>
            </Fact>
          </Stack>
          <Text size="xs" c="dimmed" mt="md">
            The data folder holds the database, the face crops, the adapters and the log files. Make sure that
            only this account can read it, and that “Backups” shows a recent one: a copy of the folder of a
            running Anneal is no backup.
          </Text>
        </Section>
        <Section title="Appearance">
          <SchemeChoice />
        </Section>
      </SimpleGrid>
      <Section title="Devices" description="What this machine can train on.">
        <Loaded query={devices}>{(rows) => <DevicesTable devices={rows} />}</Loaded>
      </Section>
    </Page>
  );
}

function SchemeChoice() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <SegmentedControl
      aria-label="Appearance"
      value={colorScheme}
      onChange={(value) => setColorScheme(value as typeof colorScheme)}
      data={[
        { value: 'auto', label: 'Same as the system' },
        { value: 'light', label: 'Light' },
        { value: 'dark', label: 'Dark' },
      ]}
    />
  );
}

function DevicesTable({ devices }: { devices: Device[] }) {
  return (
    <Table aria-label="Devices">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Device</Table.Th>
          <Table.Th>Kind</Table.Th>
          <Table.Th>State</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {devices.map((device) => (
          <Table.Tr key={`${device.kind}/${device.name}`}>
            <Table.Td>{device.name}</Table.Td>
            <Table.Td className="code">{device.kind}</Table.Td>
            <Table.Td>
              {device.available ? (
                <Badge color="green">Available</Badge>
              ) : (
                <Text size="sm" c="dimmed">
                  {device.reason ?? 'Not available'}
                </Text>
              )}
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
