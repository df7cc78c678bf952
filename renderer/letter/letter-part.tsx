import { List, Title } from '@mantine/core';
import type { ReactNode } from 'react';

export function LetterPart({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <Title order={3} size="h5" mb={6}>
        {title}
      </Title>
      {children}
    </section>
  );
}

export function Sentences({ entries }: { entries: readonly string[] }) {
  return (
    <List size="sm" spacing={4} withPadding>
      {entries.map((entry) => (
        <List.Item key={entry}>{entry}</List.Item>
      ))}
    </List>
  );
}
