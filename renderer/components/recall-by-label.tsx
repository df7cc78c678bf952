import { Group, Progress, Stack, Text } from '@mantine/core';
import type { RoundRow } from '../../core/api/contract.ts';
import { formatPercent } from '../format/format.ts';

/** More than this scrolls by itself. */
const shownAtOnce = 12;

interface RecallProps {
  classes: readonly string[];
  rounds: readonly RoundRow[];
}

/** The newest round with figures by label; null when there is none. */
export function newestRecall(
  rounds: readonly RoundRow[],
): { round: number; recall: readonly (number | null)[] } | null {
  const row = rounds.findLast(
    (each) => each.metrics?.perClassRecall.some((share) => share !== null) === true,
  );
  return row?.metrics == null ? null : { round: row.round, recall: row.metrics.perClassRecall };
}

/** How many of the held-out images of each label were recognised, the hardest label first. */
export function RecallByLabel({ classes, rounds }: RecallProps) {
  const newest = newestRecall(rounds);
  if (newest === null) return null;
  const rows = classes
    .map((label, index) => ({ label, recall: newest.recall[index] ?? null }))
    .sort((x, y) => (x.recall ?? 2) - (y.recall ?? 2));
  const scrolls = rows.length > shownAtOnce;
  return (
    <Stack
      component="ul"
      aria-label={`Recall by label after round ${newest.round + 1}`}
      gap="xs"
      p={0}
      m={0}
      {...(scrolls && { tabIndex: 0, mah: 420 })}
      style={{ listStyle: 'none', ...(scrolls && { overflowY: 'auto' }) }}
    >
      {rows.map(({ label, recall }) => (
        <li key={label}>
          <Group justify="space-between" wrap="nowrap" gap="md" mb={2}>
            <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
              {label}
            </Text>
            <Text size="sm" fw={600} className="numbers" style={{ flexShrink: 0 }}>
              {recall === null ? 'too few images' : formatPercent(recall)}
            </Text>
          </Group>
          <Progress value={100 * (recall ?? 0)} color="brand" size="sm" aria-hidden />
        </li>
      ))}
    </Stack>
  );
}
