import { Group, Progress, Stack, Text } from '@mantine/core';
import type { ModelImport } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useLiveProgress } from '../api/live-progress.ts';
import { Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { importShare, stepWords } from './model-words.ts';

/** How far the import is, and an end to it. It goes on when nobody looks. */
export function ImportUnderWay({ importing }: { importing: ModelImport }) {
  const live = useLiveProgress().modelImport;
  const progress = live ?? importing.progress;
  const cancel = useAction(() => api.models.cancel.mutate(), { changes: ['models'] });
  return (
    <Section
      title="A network is being imported"
      description="Anneal measures with generated faces whether a photograph could be rebuilt from what the network computes. A large network takes minutes."
    >
      <Stack>
        <Progress aria-label="Import of the network" value={100 * importShare(progress)} />
        <Group justify="space-between">
          <Text size="sm" role="status">
            {stepWords(progress)}…
          </Text>
          <RoleButton
            needs={['data-manager', 'administrator']}
            variant="default"
            loading={cancel.isPending}
            onClick={() => cancel.mutate(undefined)}
          >
            Cancel the import
          </RoleButton>
        </Group>
      </Stack>
    </Section>
  );
}
