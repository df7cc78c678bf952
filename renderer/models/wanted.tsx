import { Alert, Text } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import type { WantedModel } from '../../core/api/contract.ts';

/** What to look for, when the coordinator sends a file. */
export function Wanted({ wanted }: { wanted: WantedModel }) {
  return (
    <Alert color="yellow" icon={<IconAlertTriangle aria-hidden />} title="A run waits for a network">
      <Text size="sm">
        The coordinator calls it “{wanted.name}”. Ask for the file that was imported there and for the
        settings it was imported with, and import it here in the same way: the name may be another one, the
        identity must be <span className="code">{wanted.sha256}</span>.
      </Text>
    </Alert>
  );
}
