/** `report.html`: one file without scripts; the plots are SVG drawn by ECharts on the server side. */
import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { plural } from '../../shared/text.ts';
import { draw } from '../../simulation/report/charts.ts';
import { escapeHtml, style, table } from '../../simulation/report/html.ts';
import { formatBytes, formatCount, formatPercent } from '../format.ts';
import type { DemoReport } from './report.ts';
import { roundCells } from './summary.ts';

echarts.use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent]);

const colours = ['#2b6cb0', '#c05621', '#2f855a'];

interface Series {
  name: string;
  values: (number | null)[];
  kind: 'line' | 'bar' | 'step';
}

function plot(
  title: string,
  rounds: number[],
  series: Series[],
  axis: { format?: (value: number) => string; max?: number } = {},
): string {
  return draw(560, 280, {
    animation: false,
    color: colours,
    title: { text: title, left: 0, textStyle: { fontSize: 14, fontFamily: 'sans-serif' } },
    legend: series.length > 1 ? { top: 4, right: 0 } : { show: false },
    grid: { left: 64, right: 16, top: 44, bottom: 36 },
    xAxis: {
      type: 'category',
      data: rounds.map((round) => String(round + 1)),
      name: 'round',
      nameLocation: 'middle',
      nameGap: 24,
    },
    yAxis: {
      type: 'value',
      ...(axis.max === undefined ? {} : { max: axis.max, min: 0 }),
      ...(axis.format === undefined ? {} : { axisLabel: { formatter: axis.format } }),
    },
    series: series.map((one) => ({
      name: one.name,
      type: one.kind === 'bar' ? 'bar' : 'line',
      ...(one.kind === 'step' ? { step: 'middle' } : {}),
      ...(one.kind === 'bar' ? { stack: 'bytes' } : { symbolSize: 6 }),
      data: one.values,
    })),
  });
}

const ownStyle = `
  td:nth-child(2) { text-align: left; }
  .plots svg { border: 1px solid #dde3e6; border-radius: 8px; padding: 8px; }
  .figures { display: flex; flex-wrap: wrap; gap: 2rem; } .figures b { display: block; font-size: 1.6rem; }
  code { overflow-wrap: anywhere; }`;

function floorFigures({ floors: { untrained, classMeans } }: DemoReport): [string, string][] {
  return [
    ...(untrained === null
      ? []
      : [[formatPercent(untrained), 'nearest neighbour of the untrained network'] as [string, string]]),
    ...(classMeans === null
      ? []
      : [[formatPercent(classMeans), 'class means, before training'] as [string, string]]),
  ];
}

export function renderReportPage(report: DemoReport): string {
  const { rounds } = report;
  const numbers = rounds.map((round) => round.round);
  const plots = [
    plot('LoRA rank', numbers, [{ name: 'rank', kind: 'step', values: rounds.map((round) => round.rank) }]),
    plot(
      'Bytes on the wire',
      numbers,
      [
        { name: 'up', kind: 'bar', values: rounds.map((round) => round.bytesUp) },
        { name: 'down', kind: 'bar', values: rounds.map((round) => round.bytesDown) },
      ],
      { format: formatBytes },
    ),
    plot('Mean training loss', numbers, [
      { name: 'loss', kind: 'line', values: rounds.map((round) => round.meanLoss) },
    ]),
    plot(
      'Accuracy on held-out images',
      numbers,
      [
        { name: 'SA-FedLoRA', kind: 'line', values: rounds.map((round) => round.accuracy) },
        { name: 'head only', kind: 'line', values: rounds.map(() => report.headOnlyAccuracy) },
      ],
      { format: (value) => `${Math.round(value * 100)} %`, max: 1 },
    ),
  ];
  const figures: [string, string][] = [
    [formatPercent(report.finalAccuracy), 'accuracy on held-out images'],
    [formatPercent(report.headOnlyAccuracy), 'a head on the frozen network'],
    ...floorFigures(report),
    [formatPercent(report.parameterReduction), 'fewer parameters sent than FedAvg of the whole network'],
    [formatPercent(report.reductionAgainstFixedRank), 'fewer than LoRA at the highest rank'],
    [formatBytes(report.bytesSent), 'sent in total'],
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Anneal: report of a federated run</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><style>${style}${ownStyle}</style></head><body>
<h1>SA-FedLoRA over ${plural(report.sites.length, 'site')}</h1>
<p>${escapeHtml(report.data)}; base <code>${escapeHtml(report.base)}</code>; schedule ${escapeHtml(report.schedule)}; seed ${report.seed};
${report.wallSeconds.toFixed(0)} s on ${escapeHtml(report.device)}.</p>
<div class="figures">${figures.map(([value, label]) => `<div><b>${escapeHtml(value)}</b>${escapeHtml(label)}</div>`).join('')}</div>
${report.belowFloor === null ? '' : `<p><strong>${escapeHtml(report.belowFloor)}</strong></p>`}
<h2>Progress</h2><div class="plots">${plots.join('')}</div>
<h2>Rounds</h2>${table(
    ['Round', 'Stage', 'Rank', 'Trainable', 'Up', 'Down', 'Loss', 'Accuracy', 'Energy kept'],
    rounds.map((round) => [...roundCells(round), formatPercent(round.energyKept)]),
    'Rounds',
  )}
<h2>Parameters sent, both ways</h2>${table(
    ['What', 'Source', 'Parameters'],
    [
      ['This run', 'counted from what was sent', formatCount(report.parametersSent)],
      [
        'LoRA at the highest rank throughout',
        'computed from shapes',
        formatCount(report.fixedRankParameters),
      ],
      ['FedAvg of the whole network', 'computed from shapes', formatCount(report.fedavgFullParameters)],
    ],
    'Parameters sent, both ways',
  )}
<h2>Sites</h2>${table(
    ['Site', 'Classes', 'Training images', 'Held-out images'],
    report.sites.map((site) => [
      site.name,
      Object.entries(site.byLabel)
        .slice(0, 8)
        .map(([label, count]) => `${label} ${count.train}`)
        .join(', '),
      formatCount(site.train),
      formatCount(site.test),
    ]),
    'Sites',
  )}
<p>Global adapter <code>${report.globalAdapterSha256}</code>, as PEFT files in <code>adapter/</code>.</p>
</body></html>
`;
}
