import { Box, Group, List, Stack, Text } from '@mantine/core';
import type { SiteAnswer } from '../../core/api/contract.ts';
import { StatusBadge } from '../components/status-badge.tsx';
import { answerWord } from '../format/answers.ts';

/** What the policies of the sites say to a plan. */
export function SiteAnswers({ sites }: { sites: readonly SiteAnswer[] }) {
  if (sites.length === 0) return null;
  return (
    <section aria-label="What the sites’ policies say">
      <Text size="sm" fw={600} mb={6}>
        What the sites’ policies say
      </Text>
      <Stack component="ul" gap="xs" p={0} m={0} style={{ listStyle: 'none' }}>
        {sites.map((site) => (
          <Box component="li" key={site.siteId}>
            <Group gap="sm" wrap="nowrap">
              <StatusBadge word={answerWord(site)} />
              <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                {site.siteName}
              </Text>
            </Group>
            {site.refusals.length > 0 && (
              <List size="sm" mt={2} withPadding>
                {site.refusals.map((refusal) => (
                  <List.Item key={refusal}>{refusal}</List.Item>
                ))}
              </List>
            )}
          </Box>
        ))}
      </Stack>
      <Text size="xs" c="dimmed" mt={6}>
        Each site decides by itself. Whether it has enough subjects shows when a round begins: their numbers
        stay there.
      </Text>
    </section>
  );
}
