import { Box, Stack, Text } from '@mantine/core';
import type { SettingLine } from '../../core/config/run-config.ts';
import { Fact } from './figure.tsx';

/** The settings of a run with their values, in groups. */
export function SettingsList({ settings }: { settings: readonly SettingLine[] }) {
  return (
    <Box style={{ columns: '2 300px', columnGap: 'var(--mantine-spacing-xl)' }}>
      {[...Map.groupBy(settings, ({ group }) => group)].map(([group, lines]) => (
        <Stack key={group} gap={4} mb="md" style={{ breakInside: 'avoid' }}>
          <Text size="sm" fw={600}>
            {group}
          </Text>
          {lines.map(({ label, value }) => (
            <Fact key={label} label={label}>
              {value}
            </Fact>
          ))}
        </Stack>
      ))}
    </Box>
  );
}
