import { Button, Card, Group, List, SimpleGrid, Spoiler, Stack, Text, ThemeIcon, Title } from '@mantine/core';
import { IconArrowUpRight, IconLock, IconShieldCheck } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { formatBytes, formatCount, formatPlural } from '../format/format.ts';
import { ErrorPanel } from './error-panel.tsx';
import { Figure } from './figure.tsx';
import { SettingsList } from './settings-list.tsx';

const range = (first: string, last: string) => (first === last ? first : `${first} → ${last}`);

/** Before a site first trains for a run: exactly what would leave, what stays, and who asks. */
export function ApprovalPanel({ card }: { card: ApprovalCard }) {
  const approve = useAction(() => api.site.approve.mutate({ runId: card.runId }), {
    changes: ['site', 'audit'],
    success: () => 'Approved. Training starts with the next round.',
    ownErrors: true,
  });
  const { bytesPerRound, rank } = card;
  return (
    <Card
      component="section"
      aria-label="Your approval is needed"
      padding="xl"
      style={{ borderColor: 'var(--mantine-primary-color-filled)', borderWidth: 2 }}
    >
      <Group wrap="nowrap" align="flex-start" mb="lg">
        <ThemeIcon size={44} radius="md" variant="light">
          <IconShieldCheck size={24} stroke={1.7} aria-hidden />
        </ThemeIcon>
        <div>
          <Title order={2} size="h3">
            Your approval is needed
          </Title>
          <Text c="dimmed">
            {card.askedBy} asks this site to train in a run of {formatPlural(card.rounds, 'round')}. Nothing
            is trained or sent before you approve.
          </Text>
        </div>
      </Group>
      <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="lg">
        <SideList
          title="What leaves this site"
          icon={<IconArrowUpRight size={16} aria-hidden />}
          color="orange"
          entries={card.leaves}
        />
        <SideList
          title="What stays here"
          icon={<IconLock size={16} aria-hidden />}
          color="green"
          entries={card.stays}
        />
      </SimpleGrid>
      <SimpleGrid cols={{ base: 2, md: 4 }} my="lg">
        <Figure
          small
          label="Sent per round"
          value={range(formatBytes(bytesPerRound.first), formatBytes(bytesPerRound.last))}
          hint="first → last round"
        />
        <Figure
          small
          label="Rank"
          value={range(String(rank.first), String(rank.last))}
          hint="size of the adapter"
        />
        <Figure small label="Tensors" value={formatCount(card.tensors)} hint="tables of numbers, per round" />
        <Figure small label="Rounds" value={formatCount(card.rounds)} hint="you can pause at any time" />
      </SimpleGrid>
      <Stack>
        <Spoiler maxHeight={0} showLabel="All settings of the run" hideLabel="Hide the settings">
          <SettingsList settings={card.settings} />
        </Spoiler>
        {approve.isError && <ErrorPanel error={approve.error} />}
        <Group>
          <Button size="md" loading={approve.isPending} onClick={() => approve.mutate(undefined)}>
            Approve and take part
          </Button>
          <Text size="sm" c="dimmed">
            If you do not approve, the other sites continue without this one.
          </Text>
        </Group>
      </Stack>
    </Card>
  );
}

interface SideListProps {
  title: string;
  icon: ReactNode;
  color: string;
  entries: string[];
}

function SideList({ title, icon, color, entries }: SideListProps) {
  return (
    <div>
      <Group gap="xs" mb="xs">
        <ThemeIcon size={26} radius="xl" variant="light" color={color}>
          {icon}
        </ThemeIcon>
        <Title order={3} size="h5">
          {title}
        </Title>
      </Group>
      <List size="sm" spacing={4} withPadding>
        {entries.map((entry) => (
          <List.Item key={entry}>{entry}</List.Item>
        ))}
      </List>
    </div>
  );
}
