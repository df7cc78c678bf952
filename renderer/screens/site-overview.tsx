import { Alert, Anchor, Badge, Button, Card, Grid, Group, Stack, Text, Title } from '@mantine/core';
import { IconCalendarExclamation, IconPlayerPause, IconPlayerPlay } from '@tabler/icons-react';
import { Link } from 'wouter';
import type { AgentStatus, SiteOverview } from '../../core/api/contract.ts';
import { noticeDays } from '../../core/config/consent-defaults.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useLiveProgress } from '../api/live-progress.ts';
import { useSiteOverview } from '../api/queries.ts';
import { ReportPanel } from '../components/error-panel.tsx';
import { Fact, FigureRow } from '../components/figure.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { ConnectionState, StatusBadge } from '../components/status-badge.tsx';
import { StepBar } from '../components/step-bar.tsx';
import {
  formatCount,
  formatDate,
  formatDateTime,
  formatDuration,
  formatLoss,
  formatPlural,
  formatRound,
} from '../format/format.ts';
import { activityWords, runWords, strategyLabel } from '../format/words.ts';
import { ApprovalPanel } from '../letter/approval-panel.tsx';
import { ConfirmRestore } from './confirm-restore.tsx';

/** What a site data manager sees first: does it work, and is there anything to do. */
export function SiteOverviewScreen({ status }: { status: AgentStatus }) {
  const overview = useSiteOverview();
  return (
    <Page title="Overview" subtitle={status.federation && `Member of ${status.federation}`}>
      <Loaded query={overview}>{(data) => <Overview overview={data} status={status} />}</Loaded>
    </Page>
  );
}

function Overview({ overview, status }: { overview: SiteOverview; status: AgentStatus }) {
  const { images, subjects } = overview;
  return (
    <Stack gap="lg">
      {(overview.restored !== null || overview.approval === null) && <ActivityCard overview={overview} />}
      {overview.approval && <ApprovalPanel card={overview.approval} />}
      <ConsentsEnding
        expiring={overview.consents.expiring}
        // The letter says it already.
        notes={overview.approval ? [] : overview.consents.notes}
      />
      <FigureRow
        figures={[
          {
            label: 'Images ready',
            value: formatCount(images.ready),
            hint: `${formatCount(images.withConsent)} with consent`,
          },
          {
            label: 'Subjects',
            value: formatCount(subjects.total),
            hint: `${formatCount(subjects.withConsent)} with active consent`,
          },
          {
            label: 'Set aside',
            value: formatCount(images.setAside),
            hint: images.setAside > 0 ? 'not used; see the reasons' : undefined,
          },
        ]}
      />
      {images.ready === 0 && <AddImages />}
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, md: 7 }}>
          <RunCard run={overview.run} contractSha256={overview.contractSha256} />
        </Grid.Col>
        <Grid.Col span={{ base: 12, md: 5 }}>
          <Section title="Connection">
            <Stack gap="xs">
              <Fact label="Coordinator">
                <ConnectionState broker={status.broker} />
              </Fact>
              <Fact label="Address">{status.broker.address ?? '–'}</Fact>
              <Fact label="Clock">{clockText(status.clock)}</Fact>
              <Fact label="Joined">{formatDate(overview.joinedAt)}</Fact>
              <Fact label="Site number">
                <span className="code">{overview.siteId ?? '–'}</span>
              </Fact>
            </Stack>
          </Section>
        </Grid.Col>
      </Grid>
    </Stack>
  );
}

/** By how much the clock here differs, where that is more than the measurement's own error. */
function clockText(clock: AgentStatus['clock']): string {
  if (clock === null) return '–';
  if (Math.abs(clock.aheadMs) <= clock.withinMs + 1000) return 'as the coordinator’s';
  const side = clock.aheadMs > 0 ? 'ahead of' : 'behind';
  return `${formatDuration(Math.abs(clock.aheadMs))} ${side} the coordinator’s`;
}

/** Consents that end soon, so that somebody asks the subjects in time. */
function ConsentsEnding({ expiring, notes }: SiteOverview['consents']) {
  if (expiring === 0 && notes.length === 0) return null;
  return (
    <Alert color="yellow" icon={<IconCalendarExclamation aria-hidden />} title="Consents that end">
      <Stack gap={4}>
        {expiring > 0 && (
          <Text size="sm">
            {formatPlural(expiring, 'active consent')} end within the next {noticeDays} days.{' '}
            <Anchor component={Link} href="/dataset" size="sm">
              Look at the subjects
            </Anchor>
          </Text>
        )}
        {notes.map((note) => (
          <Text size="sm" key={note}>
            {note}
          </Text>
        ))}
      </Stack>
    </Alert>
  );
}

const withoutImages = {
  title: 'Connected, but without images',
  explanation: 'This site can take part once it has images whose subjects have an active consent.',
};

function ActivityCard({ overview }: { overview: SiteOverview }) {
  const words =
    overview.activity === 'waiting' && overview.images.withConsent === 0
      ? withoutImages
      : activityWords[overview.activity];
  const { run } = overview;
  const progress = useNewestProgress(overview);
  return (
    <Card component="section" aria-label="What this site does now" padding="xl">
      <Group justify="space-between" align="flex-start" wrap="nowrap">
        <div>
          <Group gap="sm">
            <Title order={2} size="h3" aria-live="polite">
              {words.title}
            </Title>
            {run && run.status === 'running' && (
              <Badge>
                Round {formatRound(run.round)} of {formatCount(run.rounds)}
              </Badge>
            )}
          </Group>
          <Text c="dimmed" mt={4}>
            {overview.activity === 'waiting' && overview.notice !== null
              ? overview.notice
              : words.explanation}
          </Text>
        </div>
        {overview.restored ? (
          <ConfirmRestore restored={overview.restored} />
        ) : (
          <PauseButton overview={overview} />
        )}
      </Group>
      <AnswerLinks overview={overview} />
      {progress && (
        <Stack gap={6} mt="lg">
          <StepBar
            label="Step"
            step={progress.step}
            steps={progress.steps}
            detail={progressDetail(progress)}
          />
        </Stack>
      )}
    </Card>
  );
}

/** Where a person goes on who did not approve, or whose policy did not. */
function AnswerLinks({ overview: { activity, contractSha256 } }: { overview: SiteOverview }) {
  if (activity !== 'declined' && activity !== 'refused') return null;
  return (
    <Group mt="md">
      {contractSha256 !== null && (
        <Button component={Link} href={`/requests/${contractSha256}`} variant="light">
          Read the letter again
        </Button>
      )}
      {activity === 'refused' && (
        <Button component={Link} href="/policy" variant="default">
          Look at the policy
        </Button>
      )}
    </Group>
  );
}

function progressDetail({ loss, imagesPerSecond }: ShownProgress): string {
  const speed = imagesPerSecond === null ? '' : ` · ${imagesPerSecond.toFixed(1)} images per second`;
  return `Loss ${formatLoss(loss)}${speed}`;
}

interface ShownProgress {
  step: number;
  steps: number;
  loss: number | null;
  /** Known from the agent's answer only. */
  imagesPerSecond: number | null;
}

/** The events are ahead of the last answer by up to a few seconds; that one may know of no step yet. */
function useNewestProgress({ activity, progress, run }: SiteOverview): ShownProgress | null {
  const { steps } = useLiveProgress();
  if (activity !== 'training' || run === null) return progress;
  const newer = [...steps.values()].find((step) => step.runId === run.id && step.round === run.round);
  if (newer === undefined || newer.step < (progress?.step ?? 0)) return progress;
  const { step, steps: total, loss } = newer;
  return { step, steps: total, loss, imagesPerSecond: progress?.imagesPerSecond ?? null };
}

function PauseButton({ overview }: { overview: SiteOverview }) {
  const options = { changes: ['site'] } as const;
  const pause = useAction(() => api.site.pause.mutate(), {
    ...options,
    success: () => 'This site is paused.',
  });
  const resume = useAction(() => api.site.resume.mutate(), {
    ...options,
    success: () => 'This site takes part again.',
  });
  if (overview.activity === 'not-joined') return null;
  return overview.activity === 'paused' ? (
    <RoleButton
      needs={['data-manager', 'approver']}
      style={{ flexShrink: 0 }}
      leftSection={<IconPlayerPlay size={16} aria-hidden />}
      loading={resume.isPending}
      onClick={() => resume.mutate(undefined)}
    >
      Resume
    </RoleButton>
  ) : (
    <RoleButton
      needs={['data-manager', 'approver']}
      variant="default"
      style={{ flexShrink: 0 }}
      leftSection={<IconPlayerPause size={16} aria-hidden />}
      loading={pause.isPending}
      onClick={() => pause.mutate(undefined)}
    >
      Pause
    </RoleButton>
  );
}

function AddImages() {
  return (
    <Section title="Next step: add your images">
      <Group justify="space-between" wrap="nowrap">
        <Text size="sm" c="dimmed">
          Choose a folder of photographs and a CSV file that says whose they are, with the diagnosis and the
          consent.
        </Text>
        <Button component={Link} href="/dataset/import">
          Add images
        </Button>
      </Group>
    </Section>
  );
}

function RunCard({ run, contractSha256 }: Pick<SiteOverview, 'run' | 'contractSha256'>) {
  return (
    <Section title="Training run" actions={run && <StatusBadge word={runWords[run.status]} />}>
      {run === null ? (
        <Text size="sm" c="dimmed">
          There is no run yet. The coordinator starts one when enough sites have joined; Anneal asks for your
          approval first.
        </Text>
      ) : (
        <Stack gap="xs">
          <Fact label="Round">
            {formatCount(Math.min(run.round + 1, run.rounds))} of {formatCount(run.rounds)}
          </Fact>
          <Fact label="Method">{strategyLabel(run.strategy)}</Fact>
          <Fact label="Started">{formatDateTime(run.createdAt)}</Fact>
          {run.finishedAt && <Fact label="Ended">{formatDateTime(run.finishedAt)}</Fact>}
          <Fact label="Run number">
            <span className="code">{run.id}</span>
          </Fact>
          {contractSha256 !== null && (
            <Fact label="What it asks">
              <Anchor component={Link} href={`/requests/${contractSha256}`} size="sm">
                Letter and decision
              </Anchor>
            </Fact>
          )}
          {run.failure && <ReportPanel report={run.failure} />}
        </Stack>
      )}
    </Section>
  );
}
