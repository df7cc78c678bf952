/** The last screen of the demo: a table per round and what it cost beside what it is compared with. */

import { describeFloors } from '../../evaluation/floors.ts';
import { plural } from '../../shared/text.ts';
import { formatBytes, formatCount, formatLoss, formatPercent, formatTable } from '../format.ts';
import type { DemoReport } from './report.ts';

export const roundCells = (round: DemoReport['rounds'][number]): string[] => [
  String(round.round + 1),
  round.stage,
  String(round.rank),
  formatCount(round.trainableParameters),
  formatBytes(round.bytesUp),
  formatBytes(round.bytesDown),
  formatLoss(round.meanLoss),
  formatPercent(round.accuracy),
];

export function renderRounds(report: DemoReport): string {
  return formatTable(
    ['round', 'stage', 'rank', 'trainable', 'up', 'down', 'loss', 'federated accuracy'],
    report.rounds.map(roundCells),
    [0, 2, 3, 4, 5, 6, 7],
  );
}

export function renderTotals(report: DemoReport): string {
  const share = (parameters: number) => formatPercent(1 - report.parametersSent / parameters);
  return [
    formatTable(
      ['', 'parameters sent', 'saved by this run'],
      [
        ['this run (SA-FedLoRA)', formatCount(report.parametersSent), ''],
        [
          'LoRA at the highest rank throughout',
          formatCount(report.fixedRankParameters),
          share(report.fixedRankParameters),
        ],
        [
          'FedAvg of the whole network',
          formatCount(report.fedavgFullParameters),
          share(report.fedavgFullParameters),
        ],
      ],
      [1, 2],
    ),
    '',
    `Accuracy on held-out images: ${formatPercent(report.finalAccuracy)}; a head trained on the frozen network: ${formatPercent(report.headOnlyAccuracy)}.`,
    ...floorLines(report),
    `${report.wallSeconds.toFixed(0)} s on ${report.device}, ${plural(report.sites.length, 'site')}, ${formatBytes(report.bytesSent)} sent in total.`,
  ].join('\n');
}

/** The floors in a line, and another when the run ends below one of them. */
export function floorLines({ floors, belowFloor }: DemoReport): string[] {
  const said = describeFloors(floors);
  return [...(said === null ? [] : [said]), ...(belowFloor === null ? [] : [belowFloor])];
}
