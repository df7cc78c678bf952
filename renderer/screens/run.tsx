import { Alert, Anchor, Box, Group, SimpleGrid, Stack, Text } from '@mantine/core';
import { Link } from 'wouter';
import type { RoundRow, RunDetail } from '../../core/api/contract.ts';
import { describeSettings, preparingRounds } from '../../core/config/run-config.ts';
import { useRun } from '../api/queries.ts';
import { AgreementCharts, hasAgreement } from '../components/agreement-charts.tsx';
import { ReportPanel } from '../components/error-panel.tsx';
import { ExclusionsList, hasExclusions } from '../components/exclusions-list.tsx';
import { FigureRow } from '../components/figure.tsx';
import { GalleryTable, hasGallery } from '../components/gallery-table.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { newestRecall, RecallByLabel } from '../components/recall-by-label.tsx';
import { ResultCharts } from '../components/result-charts.tsx';
import { RoundSites } from '../components/round-sites.tsx';
import { RoundsTable } from '../components/rounds-table.tsx';
import { coveredRounds, RunTotals } from '../components/run-totals.tsx';
import { ScheduleChart } from '../components/schedule-chart.tsx';
import { SettingsList } from '../components/settings-list.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import {
  formatBytes,
  formatCount,
  formatDateTime,
  formatHash,
  formatLoss,
  formatPercent,
  formatRound,
} from '../format/format.ts';
import { classMeansWord, roundWords, runWords, stageWords, strategyLabel } from '../format/words.ts';
import { PauseNotice, PauseRunButton } from './pause-run.tsx';
import { WithdrawalNotice } from './restart-run.tsx';
import { StopRunButton } from './stop-run.tsx';

/** One run, live: the round in progress, every round so far, and how the result develops. */
export function RunScreen({ runId }: { runId: string }) {
  const run = useRun(runId);
  return (
    <Page
      title="Run"
      subtitle={
        run.data ? (
          <>
            {strategyLabel(run.data.strategy)}, started {formatDateTime(run.data.createdAt)}
          </>
        ) : (
          <Anchor component={Link} href="/runs" size="sm">
            All runs
          </Anchor>
        )
      }
      actions={
        run.data && (
          <>
            <StatusBadge word={runWords[run.data.status]} />
            <PauseRunButton run={run.data} />
            <StopRunButton run={run.data} />
          </>
        )
      }
    >
      <Loaded query={run}>{(detail) => <RunBody run={detail} />}</Loaded>
    </Page>
  );
}

function RunBody({ run }: { run: RunDetail }) {
  const open = run.done.find((row) => row.status !== 'closed');
  return (
    <Stack gap="lg">
      {run.failure && <ReportPanel report={run.failure} />}
      <PauseNotice run={run} />
      {run.withdrawal && <WithdrawalNotice run={run} note={run.withdrawal.note} />}
      {run.startedFrom && (
        <Text size="sm" c="dimmed">
          Started from the result of round {formatRound(run.startedFrom.round)} of{' '}
          <Anchor component={Link} href={`/runs/${run.startedFrom.runId}`} size="sm">
            run {formatHash(run.startedFrom.runId)}
          </Anchor>
          .
        </Text>
      )}
      {run.belowFloor && (
        <Alert color="orange" title="Training made it worse" role="status">
          {run.belowFloor} Train longer or with lower learning rates, or use the untrained network with a
          gallery.
        </Alert>
      )}
      <RunFigures run={run} />
      {open && <OpenRound run={run} round={open} />}
      {run.status === 'waiting' && (
        <Section title="Waiting for sites">
          <Text size="sm" c="dimmed">
            The first round opens when {formatCount(run.config.quorum)} sites are online and have approved the
            run.
          </Text>
        </Section>
      )}
      <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg">
        <Section title="Results">
          <ResultCharts rounds={run.done} total={run.rounds} />
        </Section>
        <Section title="Schedule">
          <ScheduleChart plan={run.plan} done={run.done} />
        </Section>
      </SimpleGrid>
      <SimpleGrid cols={{ base: 1, md: 2 }} spacing="lg">
        {newestRecall(run.done) && (
          <Section
            title="Recall by label"
            description="Share of the held-out images of each label that were recognised; the hardest first."
          >
            <RecallByLabel classes={run.config.classes} rounds={run.done} />
          </Section>
        )}
        {hasAgreement(run.done) && (
          <Section
            title="How the sites agree"
            description="Drift is the share of the sites’ changes that cancels out: 0 % when all pull the same way."
          >
            <AgreementCharts rounds={run.done} total={run.rounds} />
          </Section>
        )}
      </SimpleGrid>
      {hasGallery(run) && (
        <Section
          title="Nearest in the gallery"
          description="Held-out images whose class is among the nearest classes of their site’s own training images, by the cosine of the embeddings."
        >
          <GalleryTable run={run} />
        </Section>
      )}
      {hasExclusions(run.done) && (
        <Section
          title="Updates that counted less"
          description="Left out or scaled down by the run’s protection against wrong updates."
        >
          <ExclusionsList rounds={run.done} />
        </Section>
      )}
      <Section title="Rounds">
        <RoundsTable rounds={run.done} preparing={preparingRounds(run.config)} />
      </Section>
      <Section title="What was sent" description="Counted from what was actually sent.">
        <Box mt={-8}>
          <RunTotals totals={run.totals} of={coveredRounds(run)} />
        </Box>
      </Section>
      <Section title="Settings" description="As every site sees and approves them.">
        <SettingsList settings={describeSettings(run.config)} />
      </Section>
    </Stack>
  );
}

/** What the network did before training: without it nobody knows what the accuracy is worth. */
function floorFigures({ floors: { untrained, classMeans, isRough } }: RunDetail) {
  if (untrained === null && classMeans === null) return [];
  const about = isRough ? 'about ' : '';
  const hint =
    untrained === null || classMeans === null
      ? undefined
      : `a classifier of class means: ${about}${formatPercent(classMeans)}`;
  const label = untrained === null ? 'Class means, before training' : 'Untrained nearest neighbour';
  return [{ label, value: `${about}${formatPercent(untrained ?? classMeans)}`, hint }];
}

function RunFigures({ run }: { run: RunDetail }) {
  const closed = run.done.filter((row) => row.status === 'closed');
  const lastAccuracy = closed.findLast((row) => row.accuracy !== null);
  const lastLoss = closed.findLast((row) => row.meanLoss !== null);
  const { privacy } = run.config;
  const spent = closed.findLast((row) => row.epsilon !== null)?.epsilon ?? null;
  return (
    <FigureRow
      figures={[
        {
          label: 'Rounds done',
          value: `${formatCount(closed.length)} of ${formatCount(run.rounds)}`,
          hint: run.finishedAt ? `ended ${formatDateTime(run.finishedAt)}` : undefined,
        },
        {
          label: 'Federated accuracy',
          value: formatPercent(lastAccuracy?.accuracy ?? null),
          hint: 'on held-out images of all sites',
        },
        ...floorFigures(run),
        {
          label: 'Loss',
          value: formatLoss(lastLoss?.meanLoss ?? null),
          hint: 'mean over the sites, lower is better',
        },
        {
          label: 'Sent and received',
          value: formatBytes(run.done.reduce((sum, row) => sum + row.bytesUp + row.bytesDown, 0)),
          hint: 'all sites together, so far',
        },
        ...(privacy === null
          ? []
          : [
              {
                label: 'Privacy spent',
                value: spent === null ? '–' : `ε = ${spent.toFixed(2)}`,
                hint: `at δ = ${privacy.delta}; lower protects more`,
              },
            ]),
      ]}
    />
  );
}

function OpenRound({ run, round }: { run: RunDetail; round: RoundRow }) {
  const stage = round.round < preparingRounds(run.config) ? classMeansWord : stageWords[round.stage];
  return (
    <Section
      title={`Round ${formatCount(round.round + 1)} of ${formatCount(run.rounds)}`}
      description={`${stage.label}, rank ${round.rank}. ${stage.explanation}`}
      actions={
        <Group gap="sm" wrap="nowrap">
          {/* No deadline passes while the run is paused. */}
          {round.deadlineAt && run.status !== 'paused' && (
            <Text size="xs" c="dimmed">
              closes at the latest {formatDateTime(round.deadlineAt)}
            </Text>
          )}
          <StatusBadge word={roundWords[round.status]} />
        </Group>
      }
    >
      <RoundSites runId={run.id} round={round} />
    </Section>
  );
}
