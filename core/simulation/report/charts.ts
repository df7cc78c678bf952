/** The report's plots as SVG, drawn by ECharts on the server side. Methods differ in colour, mark and dashes. */
import { CustomChart, HeatmapChart, LineChart } from 'echarts/charts';
import { GridComponent, VisualMapComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import type { Course, Estimate } from './scenarios.ts';

echarts.use([CustomChart, HeatmapChart, LineChart, GridComponent, VisualMapComponent, SVGRenderer]);

/** Okabe and Ito's colours, told apart with any colour vision; the yellow is replaced, it is too pale for lines. */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#7f3c8d'];
const marks = ['circle', 'rect', 'triangle', 'diamond', 'emptyCircle', 'emptyRect', 'emptyTriangle'];
const dashes = ['solid', 'dashed', 'dotted'] as const;
/** Dark, through blue and yellow, to light: ordered by lightness, as cividis is. */
const heat = ['#00204c', '#2c4a7c', '#666970', '#958f78', '#cab969', '#ffea46'];

const font = 'system-ui, sans-serif';
const wide = 1120;
const narrow = 550;
/** A line with more points than this has a mark at every so-many-th. */
const marksPerLine = 15;

export interface ChartLine {
  /** Which colour, mark and dashes; the method's place in the scenario. */
  readonly style: number;
  readonly points: readonly ChartPoint[];
  readonly step?: boolean;
}

export interface ChartPoint {
  readonly x: number;
  readonly y: Estimate;
}

export interface ChartAxis {
  readonly name: string;
  readonly format?: (value: number) => string;
  readonly min?: number;
  readonly max?: number;
  readonly logarithmic?: boolean;
  readonly whole?: boolean;
}

/** Lines with a band for the 95 % interval of each, as far as there are several values. */
export function lineChart(lines: readonly ChartLine[], x: ChartAxis, y: ChartAxis): string {
  return draw(narrow, 300, {
    animation: false,
    grid: { left: 66, right: 22, top: 14, bottom: 46 },
    xAxis: axisOption(x, 28),
    yAxis: axisOption(y, 48),
    series: lines.flatMap((line) => [bandSeries(line, y), lineSeries(line)]),
  });
}

/** The same marks as in the charts, for a legend that all charts share. */
export function swatch(style: number): string {
  const hidden = { type: 'value', show: false, min: 0, max: 2 };
  const y: Estimate = { mean: 1, lower: 1, upper: 1, count: 1 };
  const points = [0, 1, 2].map((at) => ({ x: at, y }));
  const line = lineSeries({ style, points });
  line.data = line.data.map((item, index) => ({ ...item, symbol: index === 1 ? item.symbol : 'none' }));
  const grid = { left: 0, right: 0, top: 0, bottom: 0 };
  return draw(44, 16, { animation: false, grid, xAxis: hidden, yAxis: hidden, series: [line] });
}

export interface HeatMap {
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** Share 0…1 by row and column; null where it is not known. */
  readonly cells: readonly (readonly (number | null)[])[];
}

/** Shares as shades, with the percentage in the cell where there is room. */
export function heatMap({ rows, columns, cells }: HeatMap): string {
  const labelled = columns.length <= 24;
  const label = (share: number) => ({
    show: labelled,
    color: share > 0.42 ? '#111' : '#fff',
    formatter: String(Math.round(100 * share)),
  });
  const data = cells.flatMap((row, y) =>
    row.flatMap((share, x) => (share === null ? [] : [{ value: [x, y, share], label: label(share) }])),
  );
  const category = { type: 'category', axisTick: { show: false }, splitArea: { show: false } };
  const leftMargin = 24 + 7 * Math.min(28, Math.max(...rows.map((row) => row.length)));
  const turned = columns.some((column) => column.length * 7 > (wide - leftMargin) / columns.length);
  return draw(wide, 110 + 26 * rows.length + (turned ? 40 : 0), {
    animation: false,
    grid: { left: leftMargin, right: 24, top: 10, bottom: turned ? 100 : 70, show: true },
    xAxis: {
      ...category,
      data: columns,
      axisLabel: { fontFamily: font, rotate: turned ? 45 : 0, width: 110, overflow: 'truncate' },
    },
    yAxis: {
      ...category,
      data: rows,
      inverse: true,
      axisLabel: { fontFamily: font, width: leftMargin - 16, overflow: 'truncate' },
    },
    visualMap: {
      min: 0,
      max: 1,
      orient: 'horizontal',
      left: 'center',
      bottom: 0,
      itemHeight: 160,
      itemWidth: 12,
      text: ['100 %', '0 %'],
      textStyle: { fontFamily: font },
      inRange: { color: heat },
    },
    series: [{ type: 'heatmap', data, itemStyle: { borderColor: '#fff', borderWidth: 1 } }],
  });
}

/** Points of a course by round, 1-based; rounds without a value are left out. */
export function byRound(course: Course): ChartPoint[] {
  return course.flatMap((y, index) => (y === null ? [] : [{ x: index + 1, y }]));
}

function axisOption(axis: ChartAxis, nameGap: number) {
  return {
    type: axis.logarithmic === true ? 'log' : 'value',
    name: axis.name,
    nameLocation: 'middle',
    nameGap,
    nameTextStyle: { fontFamily: font, color: '#333' },
    scale: axis.min === undefined,
    ...(axis.min === undefined ? {} : { min: axis.min }),
    ...(axis.max === undefined ? {} : { max: axis.max }),
    ...(axis.whole === true ? { minInterval: 1 } : {}),
    axisLabel: {
      fontFamily: font,
      color: '#444',
      hideOverlap: true,
      ...(axis.format === undefined ? {} : { formatter: axis.format }),
    },
    splitLine: { lineStyle: { color: '#e4e7eb' } },
  };
}

function lineSeries({ style, points, step }: ChartLine) {
  const symbol = marks[style % marks.length]!;
  const every = Math.ceil(points.length / marksPerLine);
  const type = dashes[Math.floor(style / colours.length) % dashes.length]!;
  return {
    type: 'line',
    color: colours[style % colours.length]!,
    symbolSize: 7,
    lineStyle: { width: 2, type: style >= marks.length && type === 'solid' ? 'dashed' : type },
    ...(step === true ? { step: 'middle' } : {}),
    data: points.map(({ x, y }, index) => ({
      value: [x, y.mean],
      symbol: index % every === 0 || index === points.length - 1 ? symbol : 'none',
    })),
  };
}

/** The interval as a pale area behind the line; it never leaves the axis. */
function bandSeries({ style, points }: ChartLine, axis: ChartAxis) {
  const within = (value: number) =>
    Math.min(axis.max ?? Number.POSITIVE_INFINITY, Math.max(axis.min ?? Number.NEGATIVE_INFINITY, value));
  const known = points.filter(({ y }) => y.count > 1);
  const outline = [
    ...known.map(({ x, y }) => [x, within(y.upper)]),
    ...known.toReversed().map(({ x, y }) => [x, within(y.lower)]),
  ];
  return {
    type: 'custom',
    clip: true,
    silent: true,
    data: known.length < 2 ? [] : [[known[0]!.x, known[0]!.y.mean]],
    renderItem: (_params: unknown, api: { coord: (point: number[]) => number[] }) => ({
      type: 'polygon',
      shape: { points: outline.map((point) => api.coord(point)) },
      style: { fill: colours[style % colours.length], opacity: 0.14 },
    }),
  };
}

/** Any chart as SVG. */
export function draw(width: number, height: number, option: echarts.EChartsCoreOption): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption(option);
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
