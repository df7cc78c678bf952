import { Group, Progress, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import { formatCount } from '../format/format.ts';

interface StepBarProps {
  label: string;
  step: number;
  steps: number;
  /** Right of the count, for instance the loss. */
  detail?: ReactNode;
  /** Counts without the label, for rows of a table. */
  compact?: boolean;
}

/** How far a piece of work is. */
export function StepBar({ label, step, steps, detail, compact }: StepBarProps) {
  const share = steps > 0 ? Math.min(100, (step / steps) * 100) : 0;
  return (
    <div>
      <Group justify="space-between" gap="xs" mb={4} wrap="nowrap">
        <Text size={compact ? 'xs' : 'sm'} className="numbers">
          {compact
            ? `${formatCount(step)} of ${formatCount(steps)}`
            : `${label}: ${formatCount(step)} of ${formatCount(steps)}`}
        </Text>
        {detail && (
          <Text size={compact ? 'xs' : 'sm'} c="dimmed" className="numbers">
            {detail}
          </Text>
        )}
      </Group>
      <Progress value={share} size={compact ? 'sm' : 'md'} aria-label={label} />
    </div>
  );
}
