import { Button, Grid, Group, Stack } from '@mantine/core';
import { IconUserPlus } from '@tabler/icons-react';
import { useState } from 'react';
import { Link } from 'wouter';
import type { AgentStatus, CoordinatorOverview, RunDetail, RunSummary } from '../../core/api/contract.ts';
import { useCoordinatorOverview } from '../api/queries.ts';
import { ReportPanel } from '../components/error-panel.tsx';
import { Loaded } from '../components/loaded.tsx';
import { Page, Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { coveredRounds, RunTotals } from '../components/run-totals.tsx';
import { ScheduleChart } from '../components/schedule-chart.tsx';
import { StatusBadge } from '../components/status-badge.tsx';
import { formatCount, formatPercent } from '../format/format.ts';
import { runWords, strategyLabel } from '../format/words.ts';
import { InviteDialog } from './invite-dialog.tsx';
import { PauseNotice } from './pause-run.tsx';
import { PlanRun } from './plan-run.tsx';
import { InvitationsCard, SitesCard } from './sites-cards.tsx';
import { isActive, StopRunButton } from './stop-run.tsx';

/** The federation at a glance: the run in progress or the next one, and who is there. */
export function CoordinatorOverviewScreen({ status }: { status: AgentStatus }) {
  const overview = useCoordinatorOverview();
  const [inviting, setInviting] = useState(false);
  const invite = () => setInviting(true);
  return (
    <Page
      title={status.federation ?? 'Overview'}
      subtitle={overview.data && `Sites connect to ${overview.data.brokerAddress}`}
      actions={
        <RoleButton
          needs={['administrator']}
          leftSection={<IconUserPlus size={16} aria-hidden />}
          onClick={invite}
        >
          Invite a site
        </RoleButton>
      }
    >
      <Loaded query={overview}>{(data) => <Overview overview={data} onInvite={invite} />}</Loaded>
      {inviting && <InviteDialog onClose={() => setInviting(false)} />}
    </Page>
  );
}

function Overview({ overview, onInvite }: { overview: CoordinatorOverview; onInvite: () => void }) {
  const { current } = overview;
  const [newest] = overview.runs;
  const sites = overview.sites.filter((site) => !site.revoked).length;
  return (
    <Grid gap="lg">
      <Grid.Col span={{ base: 12, md: 8 }}>
        <Stack gap="lg">
          {current === null && newest !== undefined && isActive(newest) ? (
            <UnloadedRun run={newest} />
          ) : current !== null && isActive(current) ? (
            <CurrentRun run={current} />
          ) : (
            <>
              {current !== null && <LastRun run={current} />}
              <PlanRun sites={sites} previous={current} />
            </>
          )}
        </Stack>
      </Grid.Col>
      <Grid.Col span={{ base: 12, md: 4 }}>
        <Stack gap="lg">
          <SitesCard sites={overview.sites} onInvite={onInvite} />
          <InvitationsCard invitations={overview.invitations} />
        </Stack>
      </Grid.Col>
    </Grid>
  );
}

/** In progress, and more than its summary cannot be shown: its base model is missing, or it cannot be read. */
function UnloadedRun({ run }: { run: RunSummary }) {
  return (
    <Section
      title="Run that cannot be loaded"
      description={run.unreadable ?? strategyLabel(run.strategy)}
      actions={
        <Group gap="sm" wrap="nowrap">
          <StatusBadge word={runWords[run.status]} />
          <StopRunButton run={run} />
        </Group>
      }
    >
      <PauseNotice run={run} />
    </Section>
  );
}

function CurrentRun({ run }: { run: RunDetail }) {
  return (
    <Section
      title={
        run.status === 'waiting'
          ? 'Run waiting for sites'
          : `Round ${formatCount(run.round + 1)} of ${formatCount(run.rounds)}`
      }
      description={strategyLabel(run.strategy)}
      actions={
        <Group gap="sm" wrap="nowrap">
          <StatusBadge word={runWords[run.status]} />
          <Button component={Link} href={`/runs/${run.id}`} variant="light" size="xs">
            Watch it live
          </Button>
          <StopRunButton run={run} />
        </Group>
      }
    >
      <PauseNotice run={run} />
      <ScheduleChart plan={run.plan} done={run.done} />
      <RunTotals totals={run.totals} of={coveredRounds(run)} />
    </Section>
  );
}

function LastRun({ run }: { run: RunDetail }) {
  const last = run.done.findLast((row) => row.accuracy !== null);
  return (
    <Section
      title="Last run"
      description={`${strategyLabel(run.strategy)}, ${formatCount(run.done.length)} of ${formatCount(run.rounds)} rounds${
        last?.accuracy == null ? '' : `, federated accuracy ${formatPercent(last.accuracy)}`
      }`}
      actions={
        <Group gap="sm" wrap="nowrap">
          <StatusBadge word={runWords[run.status]} />
          <Button component={Link} href={`/runs/${run.id}`} variant="light" size="xs">
            Results
          </Button>
        </Group>
      }
    >
      {run.failure ? (
        <ReportPanel report={run.failure} />
      ) : (
        <RunTotals totals={run.totals} of={coveredRounds(run)} />
      )}
    </Section>
  );
}
