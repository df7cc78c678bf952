import { Box, Group, Stack, Text, Tooltip } from '@mantine/core';
import { memo } from 'react';
import type { PlannedRound, RoundRow } from '../../core/api/contract.ts';
import type { Stage } from '../../core/strategy/strategy.ts';
import { formatBytes, formatPlural } from '../format/format.ts';
import { scheduleRows, stageSpans } from '../format/schedule-rows.ts';
import { stageWords } from '../format/words.ts';
import { axisWidth, ChartPanel, chartMargin } from './chart-panel.tsx';

interface ScheduleChartProps {
  plan: PlannedRound[];
  /** Rounds that have run; empty before a run. */
  done?: RoundRow[];
}

const noRounds: RoundRow[] = [];

/**
 * Rank and bytes of every round, planned and done, over the stages of the schedule. Drawing is the dearest
 * thing on its screens, so it waits for a new plan or a new round.
 */
export const ScheduleChart = memo(function ScheduleChart({ plan, done = noRounds }: ScheduleChartProps) {
  const rows = scheduleRows(plan, done);
  const first = plan[0];
  const last = plan.at(-1);
  if (first === undefined || last === undefined) return null;
  const running = done.length > 0;
  const doneCount = done.filter((row) => row.status === 'closed').length;
  const progress = running ? ` ${formatPlural(doneCount, 'round')} of ${plan.length} done.` : '';
  return (
    <Stack gap="sm">
      <ChartPanel
        title="Rank of the adapter"
        kind="bars"
        group="schedule"
        withRounds={false}
        height={130}
        rows={rows}
        format={(value) => String(Math.round(value))}
        series={[
          ...(running ? [{ name: 'rankDone', label: 'Done', color: 'var(--anneal-done)' }] : []),
          {
            name: 'rankPlanned',
            label: 'Planned',
            color: running ? 'var(--anneal-planned)' : 'var(--anneal-done)',
          },
        ]}
        summary={`The rank goes from ${first.rank} in round 1 to ${last.rank} in round ${plan.length}.${progress}`}
      />
      <ChartPanel
        title="Data sent per site and round"
        kind="bars"
        group="schedule"
        height={150}
        rows={rows}
        format={formatBytes}
        series={[
          ...(running ? [{ name: 'bytesDone', label: 'Done', color: 'var(--anneal-second)' }] : []),
          {
            name: 'bytesPlanned',
            label: 'Planned',
            color: running ? 'var(--anneal-second-planned)' : 'var(--anneal-second)',
          },
        ]}
        summary={`A site sends ${formatBytes(first.bytesPerSite)} in round 1 and ${formatBytes(last.bytesPerSite)} in round ${plan.length}.`}
      />
      <StageStrip plan={plan} />
    </Stack>
  );
});

/** The stages as a coloured line under the rounds that they cover, named below it. */
function StageStrip({ plan }: { plan: PlannedRound[] }) {
  const spans = stageSpans(plan);
  return (
    <Box pl={axisWidth + chartMargin.left} pr={chartMargin.right}>
      <Group gap={2} wrap="nowrap" aria-hidden mb={6}>
        {spans.map((span) => (
          <Box
            key={span.from}
            h={4}
            bg={stageColor(span.stage)}
            style={{ flex: span.rounds, borderRadius: 2 }}
          />
        ))}
      </Group>
      <Group component="ul" gap="md" p={0} m={0} style={{ listStyle: 'none', rowGap: 2 }} aria-label="Stages">
        {spans.map((span) => {
          const { label, explanation } = stageWords[span.stage];
          const range =
            span.rounds === 1 ? `${span.from + 1}` : `${span.from + 1}–${span.from + span.rounds}`;
          return (
            <Tooltip key={span.from} label={explanation}>
              <Group component="li" gap={6} wrap="nowrap">
                <Box aria-hidden w={10} h={10} bg={stageColor(span.stage)} style={{ borderRadius: 2 }} />
                <Text size="xs" c="dimmed">
                  {label} {range}
                </Text>
              </Group>
            </Tooltip>
          );
        })}
      </Group>
    </Box>
  );
}

const stageColor = (stage: Stage) => `var(--mantine-color-${stageWords[stage].color}-filled)`;
