import { Alert, Anchor, Button, Group, Stack, Text } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { ErrorReport } from '../../core/shared/errors.ts';
import { toReport } from '../api/errors.ts';

interface ReportPanelProps {
  report: ErrorReport;
  onRetry?: (() => void) | undefined;
}

/** What is wrong and what to do about it; the code is for whoever helps. */
export function ReportPanel({ report, onRetry }: ReportPanelProps) {
  return (
    <Alert color="red" icon={<IconAlertTriangle aria-hidden />} title={report.message} role="alert">
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{report.action}</Text>
        {report.code === 'MODEL_UNKNOWN' && (
          <Anchor size="sm" href="#/models">
            Open the screen Models
          </Anchor>
        )}
        <Group gap="md">
          {onRetry && (
            <Button size="xs" variant="default" onClick={onRetry}>
              Try again
            </Button>
          )}
          <Text size="xs" c="dimmed">
            Error code {report.code}
          </Text>
        </Group>
      </Stack>
    </Alert>
  );
}

/** The same for anything that was thrown. */
export function ErrorPanel({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  return <ReportPanel report={toReport(error)} onRetry={onRetry} />;
}
