import { Box, Grid, Group, Stack, Text } from '@mantine/core';
import { useForm } from '@mantine/form';
import { useDebouncedValue } from '@mantine/hooks';
import { IconPlayerPlay } from '@tabler/icons-react';
import { useEffect, useState } from 'react';
import type { RunDetail, RunPlan } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useRunPlan } from '../api/queries.ts';
import { type Refusal, refusalAt } from '../api/refusal.ts';
import { type FormSettings, initialSettings, settingsOfRun, writtenSettings } from '../api/run-settings.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Waiting } from '../components/loaded.tsx';
import { Section } from '../components/page.tsx';
import { RoleButton } from '../components/role-button.tsx';
import { RunTotals } from '../components/run-totals.tsx';
import { ScheduleChart } from '../components/schedule-chart.tsx';
import { answerSummary, isHopeless } from '../format/answers.ts';
import { BaseField } from './base-field.tsx';
import { RunSettingsFields, shownPaths } from './run-settings-fields.tsx';
import { SiteAnswers } from './site-answers.tsx';

interface PlanRunProps {
  /** Enrolled sites, for the totals. */
  sites: number;
  /** Its settings are where the next plan starts. */
  previous: RunDetail | null;
}

/** A slider that moves asks the agent only when it rests for this long. */
const restMs = 120;

/** Settings on sliders; the schedule and what it costs follow at once. */
export function PlanRun({ sites, previous }: PlanRunProps) {
  const form = useForm<FormSettings>({
    initialValues: previous === null ? initialSettings() : settingsOfRun(previous),
    validate: {
      classes: (classes) =>
        classes.length < 2 ? 'Name at least two labels, as they are written in the CSV files.' : null,
    },
  });
  const [settings] = useDebouncedValue(form.values, restMs);
  const plan = useRunPlan(plannable(settings), Math.max(1, sites));
  const shown = useLastPlan(plan.data);
  const start = useAction(
    (values: FormSettings) => api.coordinator.startRun.mutate(writtenSettings(values)),
    {
      changes: ['coordinator', 'run', 'audit'],
      success: () => 'The run has started. Sites are asked for their approval.',
      ownErrors: true,
    },
  );
  const error = plan.error ?? start.error;
  const refusal = error === null ? null : refusalAt(error, shownPaths(form.values));
  return (
    <Section
      title="Plan a run"
      description="Early rounds learn broadly with a large adapter; later ones settle with a small one and send less."
    >
      <form noValidate onSubmit={form.onSubmit((values) => start.mutate(values))}>
        <Stack gap="lg">
          <BaseField
            value={form.values.baseId}
            onChange={(baseId) => {
              start.reset();
              form.setValues({ baseId });
            }}
          />
          <RunSettingsFields
            values={form.values}
            onChange={(changed) => {
              start.reset();
              form.setValues(changed);
            }}
            refused={(path) => (path === 'classes' && form.errors.classes) || textAt(refusal, path)}
          />
          {error !== null && refusal === null && <ErrorPanel error={error} />}
          {shown === undefined ? (
            !plan.isError && <Waiting />
          ) : (
            <Planned plan={shown} isOld={plan.isPlaceholderData || plan.isError} />
          )}
          {shown !== undefined && <SiteAnswers sites={shown.sites} />}
          <Group justify="space-between" wrap="nowrap">
            <Text size="sm" c="dimmed">
              {sites === 0
                ? 'Invite at least one site first.'
                : ((shown && answerSummary(shown)) ??
                  'Each site sees what would leave it and approves before it trains.')}
            </Text>
            <RoleButton
              needs={['approver']}
              type="submit"
              style={{ flexShrink: 0 }}
              leftSection={<IconPlayerPlay size={16} aria-hidden />}
              loading={start.isPending}
              disabled={sites === 0 || plan.isError || (shown !== undefined && isHopeless(shown))}
            >
              Start the run
            </RoleButton>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

/** The chart, and beside it what the whole run would send. Pale while it is of other settings than those shown. */
function Planned({ plan, isOld }: { plan: RunPlan; isOld: boolean }) {
  return (
    <Box style={{ opacity: isOld ? 0.5 : 1, transition: 'opacity 150ms' }} aria-busy={isOld}>
      <Grid gap="lg">
        <Grid.Col span={{ base: 12, lg: 8 }}>
          <ScheduleChart plan={plan.plan} />
        </Grid.Col>
        <Grid.Col span={{ base: 12, lg: 4 }}>
          <RunTotals totals={plan.totals} of="plan" cols={{ base: 1, sm: 3, lg: 1 }} />
        </Grid.Col>
      </Grid>
    </Box>
  );
}

/** The newest plan that the agent could make: settings that it refuses leave the chart as it was. */
function useLastPlan(plan: RunPlan | undefined): RunPlan | undefined {
  const [last, setLast] = useState(plan);
  useEffect(() => {
    if (plan !== undefined) setLast(plan);
  }, [plan]);
  return plan ?? last;
}

const textAt = (refusal: Refusal | null, setting: string): string | null =>
  refusal?.setting === setting ? refusal.text : null;

/**
 * The schedule shows before the labels are typed: two unnamed ones stand for them, a few hundred parameters. What is
 * written to the sites changes nothing in it.
 */
function plannable({ classes, ...settings }: FormSettings): FormSettings {
  const named = classes.length < 2 ? ['first label', 'second label'] : classes;
  return { ...settings, classes: named, title: '', note: '' };
}
