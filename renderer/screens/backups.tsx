import { Alert, Button, Checkbox, Group, PasswordInput, Progress, Stack, Table, Text } from '@mantine/core';
import { IconAlertTriangle, IconDatabaseExport } from '@tabler/icons-react';
import { useState } from 'react';
import type { BackupProgress, BackupState, WrittenBackup } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useBackups } from '../api/queries.ts';
import { EmptyState } from '../components/empty-state.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { PathField } from '../components/path-field.tsx';
import { RoleButton } from '../components/role-button.tsx';
import {
  formatBytes,
  formatDateTime,
  formatDuration,
  formatPlural,
  formatRelative,
} from '../format/format.ts';

/** Making a backup while everything runs, and how old the newest one is. */
export function BackupsScreen() {
  const backups = useBackups();
  return (
    <Page
      title="Backups"
      subtitle="An encrypted copy of the data folder, from which another computer can go on."
    >
      <Loaded query={backups}>
        {(state) => (
          <Stack gap="lg">
            <Notes state={state} />
            {state.underWay !== null && <UnderWay progress={state.underWay} />}
            <NewBackup />
            <KnownBackups state={state} />
          </Stack>
        )}
      </Loaded>
    </Page>
  );
}

function Notes({ state: { beforeErasure, restored } }: { state: BackupState }) {
  return (
    <>
      {restored !== null && (
        <Alert color="yellow" icon={<IconAlertTriangle aria-hidden />} title="Restored from a backup">
          On {formatDateTime(restored.at)} this data folder was restored from a backup of{' '}
          {formatDateTime(restored.madeAt)}. What was recorded in between is missing, also withdrawals and
          erasures.
        </Alert>
      )}
      {beforeErasure > 0 && (
        <Alert color="yellow" icon={<IconAlertTriangle aria-hidden />} title="Somebody was erased since">
          {formatPlural(beforeErasure, 'backup')} made before the newest erasure may still hold that person.
          Make a new backup, then delete the older files.
        </Alert>
      )}
    </>
  );
}

function NewBackup() {
  const [file, setFile] = useState('');
  const [passphrase, setPassphrase] = useState('');
  const [again, setAgain] = useState('');
  const [withModels, setWithModels] = useState(true);
  const make = useAction(() => api.backups.make.mutate({ file: file.trim(), passphrase, withModels }), {
    changes: ['backups', 'status', 'audit'],
    ownErrors: true,
    onSuccess() {
      setPassphrase('');
      setAgain('');
    },
  });
  const isSame = passphrase === again;
  return (
    <Section
      title="Make a backup"
      description="Everything goes on meanwhile. The file is read back and checked before it gets its name; one that is there is never replaced."
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isSame) make.mutate(undefined);
        }}
      >
        <Stack>
          <PathField
            label="File"
            description="On the machine where Anneal runs; best on another disk."
            placeholder="/media/backup/anneal-2026-11-30.anneal"
            choose={{ newFile: [{ name: 'Anneal backup', extensions: ['anneal'] }] }}
            value={file}
            onChange={setFile}
          />
          <Group grow align="flex-start">
            <PasswordInput
              label="Passphrase"
              description="Without it nobody can open the backup: keep it in another place."
              autoComplete="new-password"
              value={passphrase}
              onChange={(event) => setPassphrase(event.currentTarget.value)}
            />
            <PasswordInput
              label="The same once more"
              description="So that it holds no slip of the keyboard."
              autoComplete="new-password"
              value={again}
              onChange={(event) => setAgain(event.currentTarget.value)}
              error={isSame || again === '' ? undefined : 'The two differ.'}
            />
          </Group>
          <Checkbox
            label="Also the imported base models"
            description="They can be large, and can be imported again."
            checked={withModels}
            onChange={(event) => setWithModels(event.currentTarget.checked)}
          />
          {make.isError && <ErrorPanel error={make.error} />}
          {make.data !== undefined && <Written backup={make.data} />}
          <Group justify="flex-end">
            <RoleButton
              needs={['administrator']}
              type="submit"
              leftSection={<IconDatabaseExport size={16} aria-hidden />}
              disabled={file.trim() === '' || passphrase === '' || !isSame}
              loading={make.isPending}
            >
              Make the backup
            </RoleButton>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

function Written({ backup: { sizeBytes, files, missing } }: { backup: WrittenBackup }) {
  return (
    <Alert color={missing === 0 ? 'green' : 'yellow'} role="status">
      The backup is written and was read back: {formatBytes(sizeBytes)}, {formatPlural(files, 'file')}.
      {missing > 0 && ` Not in it: ${formatPlural(missing, 'file')} missing or damaged in this data folder.`}
    </Alert>
  );
}

const phaseWords: Record<BackupProgress['phase'], string> = {
  database: 'Copying the database',
  copying: 'Copying the files',
  verifying: 'Reading it back',
};

function UnderWay({ progress }: { progress: BackupProgress }) {
  const { phase, doneBytes, totalBytes, secondsLeft } = progress;
  const cancel = useAction(() => api.backups.cancel.mutate(), { changes: ['backups'] });
  return (
    <Section title="A backup is being made">
      <Stack>
        <Progress
          aria-label={phaseWords[phase]}
          value={totalBytes === 0 ? 0 : (100 * doneBytes) / totalBytes}
        />
        <Group justify="space-between">
          <Text size="sm">
            {phaseWords[phase]}
            {secondsLeft !== null && `, about ${formatDuration(secondsLeft * 1000)} left`}
          </Text>
          <Button variant="default" loading={cancel.isPending} onClick={() => cancel.mutate(undefined)}>
            Cancel the backup
          </Button>
        </Group>
      </Stack>
    </Section>
  );
}

function KnownBackups({ state: { made, count } }: { state: BackupState }) {
  if (made.length === 0)
    return (
      <Section title="Backups so far">
        <EmptyState icon={IconDatabaseExport} title="No backup yet">
          Consents, withdrawals, face crops and the keys of this installation are on this disk only.
        </EmptyState>
      </Section>
    );
  return (
    <Section
      title="Backups so far"
      description={`${formatPlural(count, 'backup')} made; the newest is ${formatRelative(made[0]!.madeAt)}. Anneal does not see when one is deleted.`}
    >
      <Table aria-label="Backups so far">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Shows the data folder of</Table.Th>
            <Table.Th>Size</Table.Th>
            <Table.Th>Made by</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {made.map((backup) => (
            <Table.Tr key={backup.id}>
              <Table.Td>{formatDateTime(backup.madeAt)}</Table.Td>
              <Table.Td>{formatBytes(backup.sizeBytes)}</Table.Td>
              <Table.Td>{backup.madeBy}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Section>
  );
}
