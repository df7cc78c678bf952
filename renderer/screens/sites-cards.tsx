import { Box, Group, Menu, Stack, Text } from '@mantine/core';
import { IconBuildingHospital, IconDotsVertical, IconUserMinus } from '@tabler/icons-react';
import { useState } from 'react';
import type { InvitationRow, SiteRow } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { ConfirmDialog } from '../components/confirm-dialog.tsx';
import { EmptyState } from '../components/empty-state.tsx';
import { Section } from '../components/page.tsx';
import { RoleButton, RoleMenu } from '../components/role-button.tsx';
import { PresenceLabel } from '../components/status-badge.tsx';
import { formatDate, formatRelative } from '../format/format.ts';

/** Who has joined and who is there now. */
export function SitesCard({ sites, onInvite }: { sites: SiteRow[]; onInvite: () => void }) {
  const [removing, setRemoving] = useState<SiteRow | null>(null);
  const online = sites.filter((site) => site.online && !site.revoked).length;
  const enrolled = sites.filter((site) => !site.revoked).length;
  return (
    <Section title="Sites" description={enrolled > 0 ? `${online} of ${enrolled} online` : undefined}>
      {sites.length === 0 ? (
        <EmptyState
          icon={IconBuildingHospital}
          title="No site has joined yet"
          action={
            <RoleButton needs={['administrator']} variant="light" onClick={onInvite}>
              Invite a site
            </RoleButton>
          }
        >
          Make an invitation for each hospital and send it to its data manager.
        </EmptyState>
      ) : (
        <Stack component="ul" gap="sm" p={0} m={0} style={{ listStyle: 'none' }} aria-label="Sites">
          {sites.map((site) => (
            <SiteLine key={site.id} site={site} onRemove={() => setRemoving(site)} />
          ))}
        </Stack>
      )}
      {removing && <RemoveDialog site={removing} onClose={() => setRemoving(null)} />}
    </Section>
  );
}

function SiteLine({ site, onRemove }: { site: SiteRow; onRemove: () => void }) {
  return (
    <Group component="li" justify="space-between" wrap="nowrap" align="flex-start">
      <Box style={{ minWidth: 0 }}>
        <Text size="sm" fw={600}>
          {site.name}
        </Text>
        <Group gap={6}>
          <PresenceLabel online={site.online} revoked={site.revoked} />
          <Text size="xs" c="dimmed">
            {site.online || site.lastSeenAt === null
              ? `joined ${formatDate(site.joinedAt)}`
              : `last seen ${formatRelative(site.lastSeenAt)}`}
          </Text>
        </Group>
        {site.dismissal && (
          <Text size="xs" c="red">
            {site.dismissal.reason} It can come back {formatRelative(site.dismissal.until)}.
          </Text>
        )}
        {site.concerns.map((concern) => (
          <Text key={concern} size="xs" c="red">
            {concern}
          </Text>
        ))}
      </Box>
      {!site.revoked && (
        <RoleMenu
          needs={['administrator']}
          variant="subtle"
          color="gray"
          size="compact-sm"
          aria-label={`More for ${site.name}`}
          items={
            <Menu.Item color="red" leftSection={<IconUserMinus size={16} aria-hidden />} onClick={onRemove}>
              Remove from the federation…
            </Menu.Item>
          }
        >
          <IconDotsVertical size={16} aria-hidden />
        </RoleMenu>
      )}
    </Group>
  );
}

function RemoveDialog({ site, onClose }: { site: SiteRow; onClose: () => void }) {
  const revoke = useAction(() => api.coordinator.revoke.mutate({ siteId: site.id }), {
    changes: ['coordinator', 'audit'],
    success: () => `${site.name} is removed.`,
    onSuccess: onClose,
    ownErrors: true,
  });
  return (
    <ConfirmDialog
      opened
      danger
      title={`Remove ${site.name}?`}
      confirmLabel="Remove the site"
      busy={revoke.isPending}
      error={revoke.error}
      onConfirm={() => revoke.mutate(undefined)}
      onClose={onClose}
    >
      <Text size="sm">
        Its certificate is refused from now on. What it contributed to earlier rounds stays in them. To come
        back, it needs a new invitation.
      </Text>
    </ConfirmDialog>
  );
}

/** Invitations that nobody has used yet; used ones have become sites. */
export function InvitationsCard({ invitations }: { invitations: InvitationRow[] }) {
  const open = invitations.filter((invitation) => invitation.usedAt === null);
  if (open.length === 0) return null;
  const now = Date.now();
  return (
    <Section title="Open invitations">
      <Stack component="ul" gap="sm" p={0} m={0} style={{ listStyle: 'none' }}>
        {open.map((invitation) => {
          const expired = new Date(invitation.expiresAt).getTime() < now;
          return (
            <Group key={invitation.id} component="li" justify="space-between" wrap="nowrap">
              <Text size="sm" truncate title={invitation.siteName}>
                {invitation.siteName}
              </Text>
              <Text size="xs" c="dimmed" style={{ flexShrink: 0 }}>
                {expired ? 'expired' : `expires ${formatRelative(invitation.expiresAt)}`}
              </Text>
            </Group>
          );
        })}
      </Stack>
    </Section>
  );
}
