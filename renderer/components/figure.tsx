import { Card, Group, SimpleGrid, Text } from '@mantine/core';
import type { ReactNode } from 'react';

interface FigureProps {
  label: string;
  value: ReactNode;
  hint?: ReactNode;
  /** For values that are a range. */
  small?: boolean;
}

/** One number with its name. */
export function Figure({ label, value, hint, small }: FigureProps) {
  return (
    <div>
      <Text size="sm" c="dimmed">
        {label}
      </Text>
      <Text fz={small ? 19 : 24} fw={650} lh={1.3} className="numbers">
        {value}
      </Text>
      {hint && (
        <Text size="xs" c="dimmed" component="div">
          {hint}
        </Text>
      )}
    </div>
  );
}

/** Figures side by side in one card. */
export function FigureRow({ figures }: { figures: FigureProps[] }) {
  return (
    <Card>
      <SimpleGrid cols={{ base: 2, md: figures.length }} spacing="lg">
        {figures.map((figure) => (
          <Figure key={figure.label} {...figure} />
        ))}
      </SimpleGrid>
    </Card>
  );
}

/** A name and its value in a line, for lists of facts. */
export function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <Group justify="space-between" wrap="nowrap" gap="md" align="flex-start">
      <Text size="sm" c="dimmed" style={{ flexShrink: 0 }}>
        {label}
      </Text>
      <Text size="sm" component="div" ta="right" className="numbers" style={{ overflowWrap: 'anywhere' }}>
        {children}
      </Text>
    </Group>
  );
}
