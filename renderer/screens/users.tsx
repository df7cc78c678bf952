import { Badge, Button, Card, Group, Menu, NumberInput, Stack, Switch, Table, Text } from '@mantine/core';
import { IconDots, IconUserPlus, IconUsers } from '@tabler/icons-react';
import { useState } from 'react';
import type { Account, HandedOut, PeopleSettings } from '../../core/api/contract.ts';
import { roleWords } from '../../core/config/roles.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useMissingRole } from '../api/me.ts';
import { useUsers } from '../api/queries.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { EmptyState } from '../components/empty-state.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { RoleButton, RoleMenu } from '../components/role-button.tsx';
import { formatDateTime } from '../format/format.ts';
import { AddUserDialog, HandedOutDialog, RolesDialog, userChanges } from './user-dialogs.tsx';

type Asking =
  | { what: 'add' }
  | { what: 'roles' | 'reset' | 'deactivate' | 'reactivate'; account: Account }
  | { what: 'handed-out'; handedOut: HandedOut };

/** Who may use this installation, and in which roles. */
export function UsersScreen() {
  const people = useUsers();
  const [asking, setAsking] = useState<Asking | null>(null);
  return (
    <Page
      title="Users"
      subtitle="Everybody acts under a name of their own; the audit trail keeps it."
      actions={
        <RoleButton
          needs={['administrator']}
          leftSection={<IconUserPlus size={16} aria-hidden />}
          // The first user is an administrator: it must be known whether this is the first.
          disabled={people.data === undefined}
          onClick={() => setAsking({ what: 'add' })}
        >
          Add a user
        </RoleButton>
      }
    >
      <Loaded query={people}>
        {({ users, settings }) => (
          <Stack gap="lg">
            <Card>
              {users.length === 0 ? (
                <EmptyState icon={IconUsers} title="No users yet">
                  Until there are some, whoever uses this computer’s account, or has the access code, may do
                  everything, and the audit trail names that account. The first user is an administrator.
                </EmptyState>
              ) : (
                <UsersTable users={users} ask={setAsking} />
              )}
            </Card>
            <SignInRules settings={settings} />
          </Stack>
        )}
      </Loaded>
      <Dialogs asking={asking} setAsking={setAsking} />
    </Page>
  );
}

interface DialogsProps {
  asking: Asking | null;
  setAsking: (asking: Asking | null) => void;
}

function Dialogs({ asking, setAsking }: DialogsProps) {
  const close = () => setAsking(null);
  const show = (handedOut: HandedOut) => setAsking({ what: 'handed-out', handedOut });
  if (asking === null) return null;
  if (asking.what === 'add') return <AddUserDialog onAdded={show} onClose={close} />;
  if (asking.what === 'handed-out') return <HandedOutDialog handedOut={asking.handedOut} onClose={close} />;
  if (asking.what === 'roles') return <RolesDialog account={asking.account} onClose={close} />;
  return <ConfirmUser what={asking.what} account={asking.account} onHandedOut={show} onClose={close} />;
}

const confirmWords = {
  reset: {
    title: 'New one-time password',
    text: 'is signed out everywhere, and chooses a new password at the next sign-in.',
    label: 'Hand out a password',
  },
  deactivate: {
    title: 'Deactivate user',
    text: 'is signed out at once and can’t sign in any more. The name stays in the audit trail and is never given to another person.',
    label: 'Deactivate',
  },
  reactivate: {
    title: 'Reactivate user',
    text: 'may sign in again, with a one-time password. Do this only if it is the same person.',
    label: 'Reactivate',
  },
} as const;

interface ConfirmUserProps {
  what: keyof typeof confirmWords;
  account: Account;
  onHandedOut: (handedOut: HandedOut) => void;
  onClose: () => void;
}

function ConfirmUser({ what, account: { name, displayName }, onHandedOut, onClose }: ConfirmUserProps) {
  const act = useAction(
    async (): Promise<HandedOut | null> => {
      if (what === 'reset') return api.people.resetPassword.mutate({ name });
      if (what === 'reactivate') return api.people.reactivate.mutate({ name });
      await api.people.deactivate.mutate({ name });
      return null;
    },
    {
      changes: userChanges,
      onSuccess: (handedOut) => (handedOut === null ? onClose() : onHandedOut(handedOut)),
      ownErrors: true,
    },
  );
  const { title, text, label } = confirmWords[what];
  return (
    <ConfirmDialog
      opened
      title={title}
      confirmLabel={label}
      danger={what === 'deactivate'}
      busy={act.isPending}
      error={act.error}
      onConfirm={() => act.mutate(undefined)}
      onClose={onClose}
    >
      <Text>
        {displayName} ({name}) {text}
      </Text>
    </ConfirmDialog>
  );
}

const stateOf = ({ isActive, awaitsPassword }: Account): [words: string, color: string] =>
  !isActive
    ? ['Deactivated', 'gray']
    : awaitsPassword
      ? ['One-time password', 'yellow']
      : ['Active', 'green'];

function UsersTable({ users, ask }: { users: readonly Account[]; ask: (asking: Asking) => void }) {
  return (
    <Table aria-label="Users">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Name</Table.Th>
          <Table.Th>Person</Table.Th>
          <Table.Th>Roles</Table.Th>
          <Table.Th>State</Table.Th>
          <Table.Th>Added</Table.Th>
          <Table.Th>
            <span className="visually-hidden">Actions</span>
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {users.map((account) => (
          <UserRow key={account.name} account={account} ask={ask} />
        ))}
      </Table.Tbody>
    </Table>
  );
}

function UserRow({ account, ask }: { account: Account; ask: (asking: Asking) => void }) {
  const [words, color] = stateOf(account);
  return (
    <Table.Tr>
      <Table.Td>{account.name}</Table.Td>
      <Table.Td>{account.displayName}</Table.Td>
      <Table.Td>{account.roles.map((role) => roleWords[role].label).join(', ')}</Table.Td>
      <Table.Td>
        <Badge variant="light" color={color} miw="max-content">
          {words}
        </Badge>
      </Table.Td>
      <Table.Td>
        {formatDateTime(account.createdAt)}, {account.createdBy}
      </Table.Td>
      <Table.Td ta="right">
        <RoleMenu
          needs={['administrator']}
          variant="subtle"
          size="compact-sm"
          aria-label={`Change ${account.name}`}
          items={
            account.isActive ? (
              <>
                <Menu.Item onClick={() => ask({ what: 'roles', account })}>Change roles…</Menu.Item>
                <Menu.Item onClick={() => ask({ what: 'reset', account })}>New one-time password…</Menu.Item>
                <Menu.Item color="red" onClick={() => ask({ what: 'deactivate', account })}>
                  Deactivate…
                </Menu.Item>
              </>
            ) : (
              <Menu.Item onClick={() => ask({ what: 'reactivate', account })}>Reactivate…</Menu.Item>
            )
          }
        >
          <IconDots size={16} aria-hidden />
        </RoleMenu>
      </Table.Td>
    </Table.Tr>
  );
}

function SignInRules({ settings }: { settings: PeopleSettings }) {
  const missing = useMissingRole(['administrator']);
  const [minutes, setMinutes] = useState<number | string>(settings.lockAfterMinutes);
  const change = useAction(
    (changed: Partial<PeopleSettings>) => api.people.changeSettings.mutate({ ...settings, ...changed }),
    { changes: userChanges, success: () => 'Saved.', ownErrors: true },
  );
  const isValid = Number.isInteger(minutes) && Number(minutes) >= 1 && Number(minutes) <= 480;
  return (
    <Section title="Signing in" {...(missing !== null && { description: missing })}>
      <Stack>
        {change.isError && <ErrorPanel error={change.error} />}
        <Switch
          label="Everybody signs in by name, also in the desktop app"
          description="Otherwise the desktop app belongs to whoever is signed in to this computer. The command line always does."
          checked={settings.everybodySignsIn}
          disabled={missing !== null || change.isPending}
          onChange={(event) => change.mutate({ everybodySignsIn: event.currentTarget.checked })}
        />
        <Group align="flex-end">
          <NumberInput
            label="Lock after minutes without a person"
            min={1}
            max={480}
            w={330}
            value={minutes}
            onChange={setMinutes}
            disabled={missing !== null}
            error={isValid ? undefined : 'From 1 to 480.'}
          />
          {minutes !== settings.lockAfterMinutes && (
            <Button
              disabled={!isValid}
              loading={change.isPending}
              onClick={() => change.mutate({ lockAfterMinutes: Number(minutes) })}
            >
              Save
            </Button>
          )}
        </Group>
      </Stack>
    </Section>
  );
}
