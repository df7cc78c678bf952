/** `report.html`: one file without scripts; the plots are SVG drawn by ECharts on the server side. */

import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { plural } from '../../shared/text.ts';
import { formatBytes, formatCount, formatLoss, formatPercent } from '../format.ts';
import type { DemoReport } from './report.ts';

echarts.use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

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
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 560, height: 280 });
  chart.setOption({
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
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

function table(head: string[], rows: string[][]): string {
  const cells = (tag: string, row: string[]) =>
    row.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('');
  return `<table><thead><tr>${cells('th', head)}</tr></thead><tbody>${rows.map((row) => `<tr>${cells('td', row)}</tr>`).join('')}</tbody></table>`;
}

const style = `
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #1a202c; background: #fff; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  .plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots svg { border: 1px solid #e2e8f0; border-radius: 8px; padding: 8px; }
  table { border-collapse: collapse; width: 100%; } th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid #e2e8f0; }
  th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
  .figures { display: flex; flex-wrap: wrap; gap: 2rem; } .figures b { display: block; font-size: 1.6rem; }
  code { overflow-wrap: anywhere; }`;

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
    [formatPercent(report.parameterReduction), 'fewer parameters sent than FedAvg of the whole network'],
    [formatPercent(report.reductionAgainstFixedRank), 'fewer than LoRA at the highest rank'],
    [formatBytes(report.bytesSent), 'sent in total'],
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Anneal: report of a federated run</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><style>${style}</style></head><body>
<h1>SA-FedLoRA over ${plural(report.sites.length, 'site')}</h1>
<p>${escapeHtml(report.data)}; base <code>${escapeHtml(report.base)}</code>; schedule ${escapeHtml(report.schedule)}; seed ${report.seed};
${report.wallSeconds.toFixed(0)} s on ${escapeHtml(report.device)}.</p>
<div class="figures">${figures.map(([value, label]) => `<div><b>${escapeHtml(value)}</b>${escapeHtml(label)}</div>`).join('')}</div>
<h2>Progress</h2><div class="plots">${plots.join('')}</div>
<h2>Rounds</h2>${table(
    ['Round', 'Stage', 'Rank', 'Trainable', 'Up', 'Down', 'Loss', 'Accuracy', 'Energy kept'],
    rounds.map((round) => [
      String(round.round + 1),
      round.stage,
      String(round.rank),
      formatCount(round.trainableParameters),
      formatBytes(round.bytesUp),
      formatBytes(round.bytesDown),
      formatLoss(round.meanLoss),
      formatPercent(round.accuracy),
      formatPercent(round.energyKept),
    ]),
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
  )}
<p>Global adapter <code>${report.globalAdapterSha256}</code>, as PEFT files in <code>adapter/</code>.</p>
</body></html>
`;
}
