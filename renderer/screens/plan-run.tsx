import { Box, Button, Group, Stack, Text } from '@mantine/core';
import { useForm } from '@mantine/form';
import { useDebouncedValue } from '@mantine/hooks';
import { IconPlayerPlay } from '@tabler/icons-react';
import type { RunDetail } from '../../core/api/contract.ts';
import { useAction } from '../api/action.ts';
import { api } from '../api/client.ts';
import { useRunPlan } from '../api/queries.ts';
import { initialRunSettings, type RunSettings } from '../api/run-settings.ts';
import { ErrorPanel } from '../components/error-panel.tsx';
import { Waiting } from '../components/loaded.tsx';
import { Section } from '../components/page.tsx';
import { RunTotals } from '../components/run-totals.tsx';
import { ScheduleChart } from '../components/schedule-chart.tsx';
import { RunSettingsFields } from './run-settings-fields.tsx';

interface PlanRunProps {
  /** Enrolled sites, for the totals. */
  sites: number;
  /** Its settings are where the next plan starts. */
  previous: RunDetail | null;
}

/** Settings on sliders; the schedule and what it costs follow at once. */
export function PlanRun({ sites, previous }: PlanRunProps) {
  const form = useForm<RunSettings>({
    initialValues: startingPoint(previous),
    validate: {
      classes: (classes) =>
        classes.length < 2 ? 'Name at least two labels, as they are written in the CSV files.' : null,
    },
  });
  const [settings] = useDebouncedValue(form.values, 250);
  const plan = useRunPlan(plannable(settings), Math.max(1, sites));
  const start = useAction((values: RunSettings) => api.coordinator.startRun.mutate(values), {
    changes: ['coordinator', 'run', 'audit'],
    success: () => 'The run has started. Sites are asked for their approval.',
    ownErrors: true,
  });
  return (
    <Section
      title="Plan a run"
      description="Early rounds learn broadly with a large adapter; later ones settle with a small one and send less."
    >
      <form noValidate onSubmit={form.onSubmit((values) => start.mutate(values))}>
        <Stack gap="lg">
          <RunSettingsFields
            values={form.values}
            onChange={(changed) => form.setValues(changed)}
            classesError={form.errors.classes}
          />
          <Box style={{ opacity: plan.isPlaceholderData ? 0.6 : 1, transition: 'opacity 150ms' }}>
            {plan.isError ? (
              <ErrorPanel error={plan.error} />
            ) : plan.data ? (
              <>
                <ScheduleChart plan={plan.data.plan} />
                <RunTotals totals={plan.data.totals} of="plan" />
              </>
            ) : (
              <Waiting />
            )}
          </Box>
          {start.isError && <ErrorPanel error={start.error} />}
          <Group justify="space-between" wrap="nowrap">
            <Text size="sm" c="dimmed">
              {sites === 0
                ? 'Invite at least one site first.'
                : 'Each site sees what would leave it and approves before it trains.'}
            </Text>
            <Button
              type="submit"
              style={{ flexShrink: 0 }}
              leftSection={<IconPlayerPlay size={16} aria-hidden />}
              loading={start.isPending}
              disabled={sites === 0 || plan.isError}
            >
              Start the run
            </Button>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}

/** The schedule shows before the labels are typed: two unnamed ones stand for them, a few hundred parameters. */
function plannable(settings: RunSettings): RunSettings {
  return settings.classes.length < 2 ? { ...settings, classes: ['first label', 'second label'] } : settings;
}

function startingPoint(previous: RunDetail | null): RunSettings {
  if (previous === null) return initialRunSettings;
  const { strategy, classes, rounds, initiatingRounds, heatingRounds, coolingRounds, shape, rMax, rMin } =
    previous.config;
  return {
    strategy,
    classes: [...classes],
    rounds,
    initiatingRounds,
    heatingRounds,
    coolingRounds,
    shape,
    rMax,
    rMin,
  };
}
