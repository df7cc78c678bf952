import { Button, Checkbox, Group, Modal, Stack, Text, TextInput } from '@mantine/core';
import { type FormEvent, useState } from 'react';
import type { Account, HandedOut } from '../../core/api/contract.ts';
import { allRoles, type Role, roleWords } from '../../core/config/roles.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useUsers } from '../api/queries.ts';
import { CopyText } from '../components/copy-text.tsx';
import { ErrorPanel } from '../components/error-panel.tsx';
import { formatDateTime } from '../format/format.ts';

/** What is asked again after any change of users: it may be of whoever makes it. */
export const userChanges = ['people', 'me', 'audit'] as const;

interface RoleChoiceProps {
  roles: readonly Role[];
  onChange: (roles: Role[]) => void;
}

function RoleChoice({ roles, onChange }: RoleChoiceProps) {
  return (
    <Checkbox.Group label="Roles" value={[...roles]} onChange={(values) => onChange(values as Role[])}>
      <Stack gap="xs" mt="xs">
        {allRoles.map((role) => (
          <Checkbox key={role} value={role} label={roleWords[role].label} description={roleWords[role].may} />
        ))}
      </Stack>
    </Checkbox.Group>
  );
}

interface AddUserDialogProps {
  onAdded: (handedOut: HandedOut) => void;
  onClose: () => void;
}

export function AddUserDialog({ onAdded, onClose }: AddUserDialogProps) {
  const users = useUsers();
  const isFirst = users.data?.users.length === 0;
  const [name, setName] = useState('');
  const [displayName, setDisplayName] = useState('');
  const [roles, setRoles] = useState<Role[]>(isFirst ? ['administrator'] : []);
  const add = useAction(() => api.people.add.mutate({ name: name.trim(), displayName, roles }), {
    changes: userChanges,
    onSuccess: onAdded,
    ownErrors: true,
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate(undefined);
  };
  return (
    <Modal opened onClose={onClose} title="Add a user">
      <form onSubmit={submit}>
        <Stack>
          <TextInput
            label="Name of the person"
            placeholder="Anna Meier"
            value={displayName}
            onChange={(event) => setDisplayName(event.currentTarget.value)}
            data-autofocus
          />
          <TextInput
            label="Account name"
            description="Small letters, digits and dots. It stands in the audit trail for good and can’t be changed."
            placeholder="anna.meier"
            autoCapitalize="none"
            spellCheck={false}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <RoleChoice roles={roles} onChange={setRoles} />
          {add.isError && <ErrorPanel error={add.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button
              type="submit"
              loading={add.isPending}
              disabled={name.trim() === '' || displayName.trim() === '' || roles.length === 0}
            >
              Add
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

export function RolesDialog({ account, onClose }: { account: Account; onClose: () => void }) {
  const [roles, setRoles] = useState<Role[]>(account.roles);
  const save = useAction(() => api.people.setRoles.mutate({ name: account.name, roles }), {
    changes: userChanges,
    success: () => 'Roles changed. They hold from the next click on.',
    onSuccess: onClose,
    ownErrors: true,
  });
  return (
    <Modal opened onClose={onClose} title={`Roles of ${account.displayName}`}>
      <Stack>
        <RoleChoice roles={roles} onChange={setRoles} />
        {save.isError && <ErrorPanel error={save.error} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button
            loading={save.isPending}
            disabled={roles.length === 0}
            onClick={() => save.mutate(undefined)}
          >
            Save
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}

/** The only time that the password is seen. */
export function HandedOutDialog({ handedOut, onClose }: { handedOut: HandedOut; onClose: () => void }) {
  const { account, oneTimePassword, expiresAt } = handedOut;
  return (
    <Modal
      opened
      onClose={onClose}
      title={`One-time password for ${account.displayName}`}
      closeOnClickOutside={false}
    >
      <Stack>
        <Text size="sm">
          Hand it over in person or by phone. {account.displayName} signs in as <b>{account.name}</b> and then
          chooses a password that nobody else knows. It is shown this once and is good until{' '}
          {formatDateTime(expiresAt)}.
        </Text>
        <CopyText label="One-time password" text={oneTimePassword} />
        <Group justify="flex-end">
          <Button onClick={onClose}>Done</Button>
        </Group>
      </Stack>
    </Modal>
  );
}
