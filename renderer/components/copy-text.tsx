import { Button, CopyButton, Group, Paper, Stack } from '@mantine/core';
import { IconCheck, IconCopy } from '@tabler/icons-react';

/** Text to hand on, whole: selectable, with a button that copies it. */
export function CopyText({ text, label }: { text: string; label: string }) {
  return (
    <Stack gap="xs">
      <Paper
        withBorder
        p="sm"
        mah={180}
        className="code"
        style={{ overflow: 'auto', userSelect: 'all' }}
        tabIndex={0}
        role="textbox"
        aria-readonly
        aria-label={label}
      >
        {text}
      </Paper>
      <Group justify="flex-end">
        <CopyButton value={text} timeout={2500}>
          {({ copied, copy }) => (
            <Button
              variant={copied ? 'light' : 'filled'}
              leftSection={copied ? <IconCheck size={16} aria-hidden /> : <IconCopy size={16} aria-hidden />}
              onClick={copy}
            >
              {copied ? 'Copied' : 'Copy'}
            </Button>
          )}
        </CopyButton>
      </Group>
    </Stack>
  );
}
