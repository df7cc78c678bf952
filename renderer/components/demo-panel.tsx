import { Button, Card, CopyButton, Group, Loader, Stack, Text, ThemeIcon, Title } from '@mantine/core';
import { IconCheck, IconCircleCheck, IconCopy, IconExternalLink } from '@tabler/icons-react';
import type { DemoStatus } from '../../core/api/contract.ts';

/** The demo runs beside this installation and has screens of its own. */
export function DemoPanel({ demo }: { demo: DemoStatus }) {
  const running = demo.state === 'running';
  return (
    <Card component="section" aria-label="Demo" padding="xl">
      <Group wrap="nowrap" align="flex-start">
        {running ? (
          <Loader size={28} mt={4} aria-hidden />
        ) : (
          <ThemeIcon size={32} radius="xl" color="green" variant="light">
            <IconCircleCheck size={20} aria-hidden />
          </ThemeIcon>
        )}
        <Stack gap="sm" style={{ flex: 1 }}>
          <div>
            <Title order={2} size="h4" aria-live="polite">
              {running ? 'The demo is running' : 'The demo is finished'}
            </Title>
            <Text size="sm" c="dimmed">
              {running
                ? 'A coordinator and three pretend hospitals train on this machine for a few minutes. Nothing from it stays in this installation.'
                : 'Its screens still show the result. When you are ready, choose an option above.'}
            </Text>
          </div>
          <Group gap="lg">
            <Button
              component="a"
              href={demo.url}
              target="_blank"
              rel="noopener noreferrer"
              leftSection={<IconExternalLink size={16} aria-hidden />}
            >
              Open its screens
            </Button>
            <AccessCode code={demo.accessCode} />
          </Group>
          {demo.outFolder && (
            <Text size="sm">
              Report and adapter: <span className="code">{demo.outFolder}</span>
            </Text>
          )}
        </Stack>
      </Group>
    </Card>
  );
}

function AccessCode({ code }: { code: string }) {
  return (
    <Group gap="xs">
      <Text size="sm" c="dimmed">
        They ask for the code
      </Text>
      <Text fw={650} className="code" fz="md">
        {code}
      </Text>
      <CopyButton value={code} timeout={2500}>
        {({ copied, copy }) => (
          <Button
            size="compact-sm"
            variant="subtle"
            onClick={copy}
            leftSection={copied ? <IconCheck size={14} aria-hidden /> : <IconCopy size={14} aria-hidden />}
          >
            {copied ? 'Copied' : 'Copy code'}
          </Button>
        )}
      </CopyButton>
    </Group>
  );
}
