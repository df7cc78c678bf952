import { Card, Divider, Group, Text, ThemeIcon } from '@mantine/core';
import { IconMailQuestion } from '@tabler/icons-react';
import type { ApprovalCard } from '../../core/api/contract.ts';
import { Letter } from './letter.tsx';
import { LetterAnswer } from './letter-answer.tsx';

/** The letter that waits for a person. */
export function ApprovalPanel({ card }: { card: ApprovalCard }) {
  return (
    <Card
      component="section"
      aria-label="Your approval is needed"
      padding="xl"
      style={{ borderColor: 'var(--mantine-primary-color-filled)', borderWidth: 2 }}
    >
      <Group wrap="nowrap" gap="sm" mb="lg">
        <ThemeIcon size={36} radius="md" variant="light">
          <IconMailQuestion size={21} stroke={1.7} aria-hidden />
        </ThemeIcon>
        <Text fw={650} c="var(--mantine-primary-color-light-color)">
          Your approval is needed
        </Text>
      </Group>
      <Letter card={card} />
      <Divider my="lg" />
      <LetterAnswer card={card} decided={null} />
    </Card>
  );
}
