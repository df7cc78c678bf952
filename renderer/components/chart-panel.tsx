import { BarChart, LineChart } from '@mantine/charts';
import { Box, Group, Text } from '@mantine/core';
import { useId } from 'react';

/** Width of the value axis; the strip of stages below the charts is indented by the same. */
export const axisWidth = 72;
export const chartMargin = { top: 8, right: 8, bottom: 0, left: 0 };

export interface ChartSeries {
  /** Key of the data. */
  name: string;
  label: string;
  /** CSS colour; the theme's `--anneal-*` variables change with the scheme. */
  color: string;
}

/** One row per round; a missing value leaves a gap. */
export type ChartRow = { round: string } & Record<string, string | number | null>;

interface ChartPanelProps {
  title: string;
  kind: 'bars' | 'line';
  rows: ChartRow[];
  series: ChartSeries[];
  format: (value: number) => string;
  height?: number;
  /** Panels of one group show their tooltips together. */
  group?: string;
  withRounds?: boolean;
  /** Fixed values of the axis; the chart chooses without. */
  ticks?: number[];
  /** The same facts for those who cannot see the chart. */
  summary: string;
}

/** One measure over the rounds of a run. */
export function ChartPanel(props: ChartPanelProps) {
  const titleId = useId();
  const shared = {
    data: props.rows,
    dataKey: 'round',
    series: props.series,
    h: props.height ?? 150,
    valueFormatter: props.format,
    tickLine: 'none' as const,
    strokeDasharray: '3 4',
    withXAxis: props.withRounds ?? true,
    xAxisProps: {
      minTickGap: 12,
      tickMargin: 6,
      interval: 'preserveStartEnd' as const,
      // Points stand where the bars of the panel below stand.
      ...(props.kind === 'line' && { scale: 'band' as const }),
    },
    yAxisProps: {
      width: axisWidth,
      tickCount: 4,
      interval: 0,
      ...(props.ticks && { domain: [props.ticks[0]!, props.ticks.at(-1)!], ticks: props.ticks }),
    },
    tooltipProps: { labelFormatter: (round: unknown) => `Round ${String(round)}` },
  };
  // Without the rounds below it the lowest value needs its own half line.
  const margin = props.withRounds === false ? { ...chartMargin, bottom: 8 } : chartMargin;
  const chart = {
    margin,
    ...(props.group && { syncId: props.group }),
    accessibilityLayer: false,
  };
  return (
    <Box component="figure" m={0} aria-labelledby={titleId}>
      <Group justify="space-between" mb={4}>
        <Text size="sm" fw={600} id={titleId} component="figcaption">
          {props.title}
        </Text>
        <ChartLegend series={props.series} />
      </Group>
      <div aria-hidden>
        {props.kind === 'bars' ? (
          <BarChart
            {...shared}
            type="stacked"
            maxBarWidth={44}
            barProps={{ isAnimationActive: false, radius: 2 }}
            barChartProps={{ ...chart, barCategoryGap: '18%' }}
          />
        ) : (
          <LineChart
            {...shared}
            curveType="linear"
            connectNulls={false}
            dotProps={{ r: 3.5, strokeWidth: 0 }}
            lineProps={{ isAnimationActive: false }}
            lineChartProps={chart}
          />
        )}
      </div>
      <p className="visually-hidden">{props.summary}</p>
    </Box>
  );
}

function ChartLegend({ series }: { series: ChartSeries[] }) {
  if (series.length < 2) return null;
  return (
    <Group gap="md">
      {series.map(({ name, label, color }) => (
        <Group key={name} gap={6} wrap="nowrap">
          <span aria-hidden style={{ width: 10, height: 10, borderRadius: 2, background: color }} />
          <Text size="xs" c="dimmed">
            {label}
          </Text>
        </Group>
      ))}
    </Group>
  );
}
