/** The results as plain text, the targets beside the figures. */
import Table from 'cli-table3';
import type { NetworkResult } from './measure-network.ts';
import type { Pipeline } from './messages.ts';
import { benchNetworks, sideOf } from './networks.ts';

export interface BenchReport {
  date: string;
  cpu: string;
  threads: number;
  versions: Record<string, string>;
  /** The best single matrix product seen in the run. */
  matrixPeakGigaflopsPerSecond: number;
  results: NetworkResult[];
  /** By side of the crops in pixels. */
  images: (Pipeline & { side: number })[];
}

const mebibytes = (bytes: number | null) => (bytes === null ? '' : (bytes / 2 ** 20).toFixed(0));
const fixed = (value: number | null, digits = 2) => (value === null ? '' : value.toFixed(digits));
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
/** A figure with its target and whether it was reached. */
const against = (value: number | null, target: number, kind: 'least' | 'most') => {
  if (value === null) return '';
  const reached = kind === 'least' ? value >= target : value <= target;
  return `${value.toFixed(2)} (${kind === 'least' ? '≥' : '≤'} ${target}) ${reached ? 'ok' : 'MISSED'}`;
};

export function formatReport(report: BenchReport): string {
  const speed = plainTable([
    'network',
    'batch',
    'images/s',
    'PyTorch',
    'speed ratio',
    'lowest…highest',
    'memory ratio',
    'MiB',
    'PyTorch',
    'without CUDA libraries',
    'less runtimes',
  ]);
  const inside = plainTable([
    'network',
    'GFLOP/step',
    'GFLOP/s',
    'of peak',
    'compile s',
    'optimiser share',
    'idle share',
    'gradients differ',
    'torch.compile',
  ]);
  for (const result of report.results) {
    const { targets, title } = benchNetworks.find(({ id }) => id === result.network)!;
    speed.push([
      title,
      partsText(result),
      fixed(result.imagesPerSecond, 1),
      fixed(result.torchImagesPerSecond, 1),
      against(result.speedRatio, targets.speedRatio, 'least'),
      result.speedRatioRange ? result.speedRatioRange.map((value) => value.toFixed(2)).join('…') : '',
      against(result.memoryRatio, targets.memoryRatio, 'most'),
      mebibytes(result.peakBytes),
      mebibytes(result.torchPeakBytes),
      fixed(result.memoryRatioWithoutCuda),
      fixed(result.memoryRatioLessRuntime),
    ]);
    const peak = report.matrixPeakGigaflopsPerSecond;
    inside.push([
      title,
      fixed(result.gigaflopsPerStep, 1),
      fixed(result.gigaflopsPerSecond, 0),
      percent(result.gigaflopsPerSecond / peak),
      targets.compileSeconds
        ? against(result.compileSeconds, targets.compileSeconds, 'most')
        : fixed(result.compileSeconds),
      `${percent(result.optimiserShare)} (< 3 %) ${result.optimiserShare < 0.03 ? 'ok' : 'MISSED'}`,
      result.idleShare === null ? '' : percent(result.idleShare),
      result.comparison?.gradientDifference.toExponential(1) ?? '',
      fixed(result.torchCompiledImagesPerSecond, 1),
    ]);
  }
  const heading = [
    `${report.cpu}, ${report.threads} threads, ${report.date}`,
    Object.entries(report.versions)
      .map((entry) => entry.join(' '))
      .join(', '),
    `largest matrix product: ${report.matrixPeakGigaflopsPerSecond.toFixed(0)} GFLOP/s`,
  ];
  return [...heading, '', speed.toString(), '', inside.toString(), ...formatImages(report)].join('\n');
}

/** "32 by 2 × 8": two lanes that compute 8 images each. */
function partsText({ batch, microBatch, lanes }: NetworkResult): string {
  if (microBatch === batch) return String(batch);
  return `${batch} by ${lanes === 1 ? '' : `${lanes} × `}${microBatch}`;
}

function formatImages({ images, results }: BenchReport): string[] {
  const tables = images.map((rates) => {
    const { side, importCropsPerSecond, importPhotographsPerSecond, firstEpochPerSecond } = rates;
    const eaten = results.filter(({ network }) => sideOf(network) === side);
    const fastest = Math.max(...eaten.map((result) => result.imagesPerSecond));
    const ratio = (value: number) => against(value / fastest, 3, 'least');
    const together = 1 / (1 / importCropsPerSecond + 1 / firstEpochPerSecond);
    const rows = plainTable([`images of ${side} pixels`, 'images/s', 'against what training eats']);
    rows.push(
      ['import of crops, decoding, augmentation', fixed(together, 0), ratio(together)],
      ['  import of crops', fixed(importCropsPerSecond, 0), ratio(importCropsPerSecond)],
      ['  first epoch: decoding, augmentation', fixed(firstEpochPerSecond, 0), ratio(firstEpochPerSecond)],
      [
        '  later epochs: augmentation',
        fixed(rates.laterEpochsPerSecond, 0),
        ratio(rates.laterEpochsPerSecond),
      ],
      ['import of photographs, faces found', fixed(importPhotographsPerSecond, 1), 'once per image'],
    );
    return rows.toString();
  });
  return tables.flatMap((table) => ['', table]);
}

/** Without lines or colour: readable in a log. */
function plainTable(head: string[]): Table.Table {
  const none = [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ];
  const chars = { ...Object.fromEntries(none.map((name) => [name, ''])), middle: '  ' };
  const style = { head: [], border: [], 'padding-left': 0, 'padding-right': 0 };
  return new Table({ head, chars, style });
}
