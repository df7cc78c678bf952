import { Badge, Group, Text } from '@mantine/core';
import type { AgentStatus } from '../../core/api/contract.ts';
import type { StatusWord } from '../format/words.ts';

/** A state in words; colour only repeats what the word says. */
export function StatusBadge({ word }: { word: StatusWord }) {
  return <Badge color={word.color}>{word.label}</Badge>;
}

const brokerWords: Record<AgentStatus['broker']['state'], { label: string; color: string }> = {
  none: { label: 'Not connected yet', color: 'var(--mantine-color-gray-6)' },
  connecting: { label: 'Connecting…', color: 'var(--mantine-color-yellow-6)' },
  online: { label: 'Connected', color: 'var(--mantine-color-green-6)' },
  offline: { label: 'Connection lost – trying again', color: 'var(--mantine-color-red-6)' },
};

/** Connection to the coordinator's message broker. */
export function ConnectionState({ broker }: { broker: AgentStatus['broker'] }) {
  const word = brokerWords[broker.state];
  return <DotLabel color={word.color}>{word.label}</DotLabel>;
}

/** Presence of a site. */
export function PresenceLabel({ online, revoked }: { online: boolean; revoked: boolean }) {
  if (revoked) return <DotLabel color="var(--mantine-color-red-6)">Removed</DotLabel>;
  return online ? (
    <DotLabel color="var(--mantine-color-green-6)">Online</DotLabel>
  ) : (
    <DotLabel color="var(--mantine-color-gray-6)">Offline</DotLabel>
  );
}

function DotLabel({ color, children }: { color: string; children: string }) {
  return (
    <Group gap={8} wrap="nowrap" display="inline-flex">
      <span
        aria-hidden
        style={{ width: 9, height: 9, borderRadius: '50%', background: color, flexShrink: 0 }}
      />
      <Text size="sm" span>
        {children}
      </Text>
    </Group>
  );
}
