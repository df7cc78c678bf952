import { AppShell, Badge, Box, Divider, Group, NavLink, Stack, Text } from '@mantine/core';
import type { Icon } from '@tabler/icons-react';
import {
  IconBook2,
  IconBrain,
  IconChartHistogram,
  IconDatabaseExport,
  IconHistory,
  IconHome2,
  IconInfoCircle,
  IconMail,
  IconPackages,
  IconPhotoHeart,
  IconShieldLock,
  IconUsers,
} from '@tabler/icons-react';
import type { ReactNode } from 'react';
import { Link, useLocation } from 'wouter';
import type { AgentStatus } from '../../core/api/contract.ts';
import { ReportPanel } from './error-panel.tsx';
import { Logo } from './logo.tsx';
import { SchemeToggle } from './scheme-toggle.tsx';
import { SignedInAs } from './signed-in-as.tsx';
import { ConnectionState } from './status-badge.tsx';

interface Destination {
  path: string;
  label: string;
  icon: Icon;
}

const common: Destination[] = [
  { path: '/models', label: 'Models', icon: IconBrain },
  { path: '/adapters', label: 'Adapters', icon: IconPackages },
  { path: '/audit', label: 'Audit trail', icon: IconHistory },
  { path: '/users', label: 'Users', icon: IconUsers },
  { path: '/backups', label: 'Backups', icon: IconDatabaseExport },
  { path: '/about', label: 'About', icon: IconInfoCircle },
];

const destinations: Record<AgentStatus['mode'], Destination[]> = {
  unset: [],
  site: [
    { path: '/', label: 'Overview', icon: IconHome2 },
    { path: '/requests', label: 'Requests', icon: IconMail },
    { path: '/dataset', label: 'Images and consent', icon: IconPhotoHeart },
    { path: '/policy', label: 'Policy', icon: IconShieldLock },
    ...common,
  ],
  coordinator: [
    { path: '/', label: 'Overview', icon: IconHome2 },
    { path: '/runs', label: 'Runs', icon: IconChartHistogram },
    ...common,
  ],
};

interface AppFrameProps {
  status: AgentStatus;
  /** That wait for a person. */
  requests: number;
  children: ReactNode;
}

/** Navigation on the left, the connection always in sight, the screen on the right. */
export function AppFrame({ status, requests, children }: AppFrameProps) {
  return (
    <AppShell navbar={{ width: 236, breakpoint: 0 }} padding="xl">
      <button type="button" className="visually-hidden skip-link" onClick={focusMain}>
        Skip to the content
      </button>
      <AppShell.Navbar p="md">
        <Group justify="space-between" mb="lg" wrap="nowrap">
          <Logo />
          <SchemeToggle />
        </Group>
        <Navigation mode={status.mode} requests={requests} />
        <Identity status={status} />
        <SignedInAs />
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1} style={{ outline: 'none' }}>
        <Box maw={1180} mx="auto">
          {status.problem && (
            <Box mb="lg">
              <ReportPanel report={status.problem} />
            </Box>
          )}
          {status.concerns
            .filter(({ message }) => message !== status.problem?.message)
            .map((concern) => (
              <Box mb="lg" key={concern.message}>
                <ReportPanel report={concern} />
              </Box>
            ))}
          {children}
        </Box>
      </AppShell.Main>
    </AppShell>
  );
}

function focusMain(): void {
  document.getElementById('main')?.focus();
}

function Navigation({ mode, requests }: { mode: AgentStatus['mode']; requests: number }) {
  const [location] = useLocation();
  return (
    <Stack component="nav" gap={2} aria-label="Screens" style={{ flex: 1 }}>
      {destinations[mode].map(({ path, label, icon: Icon }) => {
        const active = path === '/' ? location === '/' : location.startsWith(path);
        return (
          <NavLink
            key={path}
            component={Link}
            href={path}
            label={label}
            active={active}
            aria-current={active ? 'page' : undefined}
            leftSection={<Icon size={19} stroke={1.7} aria-hidden />}
            {...(path === '/requests' &&
              requests > 0 && {
                rightSection: (
                  <Badge variant="filled" size="sm" circle aria-label={`${requests} waiting`}>
                    {requests}
                  </Badge>
                ),
              })}
            style={{ borderRadius: 'var(--mantine-radius-md)' }}
          />
        );
      })}
    </Stack>
  );
}

/** Who this installation is and whether it reaches the others. */
function Identity({ status }: { status: AgentStatus }) {
  return (
    <Stack gap={4}>
      <Divider mb="xs" />
      <Text size="xs" c="dimmed">
        {status.mode === 'site' ? 'Hospital site' : 'Coordinator'}
      </Text>
      <Text size="sm" fw={600} lineClamp={2}>
        {status.name ?? 'Unnamed'}
      </Text>
      {status.mode === 'site' && status.federation && (
        <Group gap={6} wrap="nowrap">
          <IconBook2 size={14} aria-hidden />
          <Text size="xs" c="dimmed" lineClamp={2}>
            {status.federation}
          </Text>
        </Group>
      )}
      <ConnectionState broker={status.broker} />
    </Stack>
  );
}
