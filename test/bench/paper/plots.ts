/** Plots of one data set as a single SVG file: four charts and the legend that they share. */
import { byRound, type ChartAxis, lineChart, swatch } from '../../../core/simulation/report/charts.ts';
import { escapeHtml } from '../../../core/simulation/report/html.ts';
import type { Course, Method, Scenario } from '../../../core/simulation/report/scenarios.ts';

const chartWidth = 550;
const chartHeight = 300;
const titleHeight = 26;
const legendColumn = 275;
const legendRow = 22;
const perRow = 4;

const percent = (value: number) => `${Number((100 * value).toFixed(1))} %`;
const round: ChartAxis = { name: 'round', whole: true };

/** Accuracy by bytes sent and by round, rank and drift by round. */
export function renderPlots({ methods }: Scenario): string {
  const accuracy: ChartAxis = { name: 'accuracy', format: percent };
  const overBytes = methods.map((method, style) => ({
    style,
    points: byRound(method.accuracy).map(({ x, y }) => ({ x: method.sentBytes[x - 1]! / 1e6, y })),
  }));
  const megabytes: ChartAxis = {
    name: 'MB sent, all sites both ways (logarithmic)',
    format: (value) => String(Number(value.toPrecision(3))),
    logarithmic: true,
  };
  const rank: ChartAxis = { name: 'mean rank of layers', min: 0 };
  const drift: ChartAxis = { name: 'share of drift', format: percent, min: 0, max: 1 };
  const charts: [string, string][] = [
    ['Accuracy against bytes sent', lineChart(overBytes, megabytes, accuracy)],
    ['Accuracy by round', overRounds(methods, (method) => method.accuracy, accuracy)],
    ['Rank by round', overRounds(methods, (method) => method.rank, rank, true)],
    ['Drift between sites by round', overRounds(methods, (method) => method.drift, drift)],
  ];
  return compose(charts, methods);
}

function overRounds(
  methods: readonly Method[],
  courseOf: (method: Method) => Course,
  axis: ChartAxis,
  step = false,
): string {
  const lines = methods.map((method, style) => ({ style, step, points: byRound(courseOf(method)) }));
  return lineChart(
    lines.filter(({ points }) => points.length > 0),
    round,
    axis,
  );
}

function compose(charts: readonly [string, string][], methods: readonly Method[]): string {
  const blockHeight = chartHeight + titleHeight;
  const legendTop = 2 * blockHeight + 8;
  const width = 2 * chartWidth + 20;
  const height = legendTop + Math.ceil(methods.length / perRow) * legendRow + 8;
  const blocks = charts.map(([title, svg], index) => {
    const [x, y] = [(index % 2) * (chartWidth + 20), Math.floor(index / 2) * blockHeight];
    return `<text x="${x + 8}" y="${y + 18}" font-weight="600">${escapeHtml(title)}</text>${placed(svg, x, y + titleHeight)}`;
  });
  const legend = methods.map(({ label }, index) => {
    const [x, y] = [(index % perRow) * legendColumn + 8, legendTop + Math.floor(index / perRow) * legendRow];
    return `${placed(swatch(index), x, y)}<text x="${x + 52}" y="${y + 13}">${escapeHtml(label)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="14" fill="#1b2226"><rect width="100%" height="100%" fill="#fff"/>${blocks.join('')}${legend.join('')}</svg>\n`;
}

/** An SVG inside another one. */
function placed(svg: string, x: number, y: number): string {
  return svg.replace('<svg ', `<svg x="${x}" y="${y}" `);
}
