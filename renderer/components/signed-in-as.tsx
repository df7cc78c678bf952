import { Button, Group, Menu, Modal, Stack, Text, UnstyledButton } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { IconKey, IconLock, IconLogin2, IconLogout, IconUserCircle } from '@tabler/icons-react';
import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import type { Me } from '../../core/api/contract.ts';
import { roleWords } from '../../core/config/roles.ts';
import { api } from '../api/client.ts';
import { useBecome } from '../api/me.ts';
import { useMe } from '../api/queries.ts';
import { usePasswordChange } from '../screens/sign-in.tsx';
import { ErrorPanel } from './error-panel.tsx';

/** Who is here, at the foot of the navigation: lock, sign out, change the password, let another person in. */
export function SignedInAs() {
  const me = useMe();
  const [dialog, setDialog] = useState<'password' | null>(null);
  const become = useBecome();
  const lock = useMutation({ mutationFn: () => api.people.lock.mutate(), onSuccess: become });
  const leave = useMutation({ mutationFn: () => api.people.signOut.mutate(), onSuccess: become });
  if (me.data === undefined || me.data.actor === null) return null;
  const { actor, displayName, roles, hasPassword, hasAccounts } = me.data;
  const words = roles.map((role) => roleWords[role].label).join(', ');
  return (
    <>
      <Menu position="top-start" width={230}>
        <Menu.Target>
          <UnstyledButton aria-label={`Signed in as ${displayName ?? actor}`} mt="sm">
            <Group gap={8} wrap="nowrap" align="flex-start">
              <IconUserCircle size={20} stroke={1.6} aria-hidden style={{ flexShrink: 0 }} />
              <div style={{ minWidth: 0 }}>
                <Text size="sm" fw={600} lineClamp={1}>
                  {displayName ?? actor}
                </Text>
                <Text size="xs" c="dimmed" lineClamp={2}>
                  {hasPassword ? `${actor} · ${words}` : 'All roles'}
                </Text>
              </div>
            </Group>
          </UnstyledButton>
        </Menu.Target>
        <Menu.Dropdown>
          {hasPassword && (
            <>
              <Menu.Item leftSection={<IconLock size={16} aria-hidden />} onClick={() => lock.mutate()}>
                Lock
              </Menu.Item>
              <Menu.Item
                leftSection={<IconKey size={16} aria-hidden />}
                onClick={() => setDialog('password')}
              >
                Change password…
              </Menu.Item>
              <Menu.Item leftSection={<IconLogout size={16} aria-hidden />} onClick={() => leave.mutate()}>
                Sign out
              </Menu.Item>
            </>
          )}
          {!hasPassword && (
            <Menu.Item
              leftSection={<IconLogin2 size={16} aria-hidden />}
              disabled={!hasAccounts}
              onClick={() => become({ ...me.data, state: 'signed-out', actor: null, roles: [] })}
            >
              Sign in by name…
            </Menu.Item>
          )}
        </Menu.Dropdown>
      </Menu>
      {dialog === 'password' && <PasswordDialog onClose={() => setDialog(null)} />}
    </>
  );
}

function PasswordDialog({ onClose }: { onClose: () => void }) {
  const [error, setError] = useState<unknown>(null);
  const form = usePasswordChange({
    onError: setError,
    onChanged: (_me: Me) => {
      notifications.show({ message: 'Password changed. Your other sessions have ended.', color: 'green' });
      onClose();
    },
  });
  return (
    <Modal opened onClose={onClose} title="Change password">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          form.submit();
        }}
      >
        <Stack>
          {error != null && <ErrorPanel error={error} />}
          {form.fields}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={form.isPending} disabled={!form.isComplete}>
              Change
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
