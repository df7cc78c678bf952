import { Table, Text } from '@mantine/core';
import type { RoundRow, RoundSite } from '../../core/api/contract.ts';
import { progressKey, useLiveProgress } from '../api/live-progress.ts';
import { formatCount, formatLoss } from '../format/format.ts';
import { roundSiteWords } from '../format/words.ts';
import { StatusBadge } from './status-badge.tsx';
import { StepBar } from './step-bar.tsx';

/** What each site does in a round, with its steps as they happen. */
export function RoundSites({ runId, round }: { runId: string; round: RoundRow }) {
  const { steps } = useLiveProgress();
  if (round.sites.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        No site has started this round yet.
      </Text>
    );
  }
  return (
    <Table aria-label={`Sites in round ${round.round + 1}`} layout="fixed">
      <Table.Thead>
        <Table.Tr>
          <Table.Th w="28%">Site</Table.Th>
          <Table.Th w={120}>State</Table.Th>
          <Table.Th>Steps</Table.Th>
          <Table.Th w={90} ta="right">
            Loss
          </Table.Th>
          <Table.Th w={110} ta="right">
            Images
          </Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {round.sites.map((site) => {
          const live =
            site.status === 'working' ? steps.get(progressKey(runId, round.round, site.siteId)) : undefined;
          return <SiteRow key={site.siteId} site={site} live={live} />;
        })}
      </Table.Tbody>
    </Table>
  );
}

interface SiteRowProps {
  site: RoundSite;
  live: { step: number; steps: number; loss: number | null } | undefined;
}

function SiteRow({ site, live }: SiteRowProps) {
  // Whichever is further: the answer may be older than the events, or the events may have been missed.
  const ahead = live !== undefined && live.step >= (site.step ?? 0);
  const step = ahead ? live.step : site.step;
  const steps = ahead ? live.steps : site.steps;
  return (
    <Table.Tr>
      <Table.Td fw={600}>{site.siteName}</Table.Td>
      <Table.Td>
        <StatusBadge word={roundSiteWords[site.status]} />
      </Table.Td>
      <Table.Td>
        {site.reason ? (
          <Text size="sm" c="dimmed">
            {site.reason}
          </Text>
        ) : step !== null && steps !== null ? (
          <StepBar compact label={`Steps of ${site.siteName}`} step={step} steps={steps} />
        ) : (
          <Text size="sm" c="dimmed">
            –
          </Text>
        )}
      </Table.Td>
      <Table.Td ta="right" className="numbers">
        {formatLoss(site.meanLoss ?? live?.loss ?? null)}
      </Table.Td>
      <Table.Td ta="right" className="numbers">
        {formatCount(site.examples)}
      </Table.Td>
    </Table.Tr>
  );
}
