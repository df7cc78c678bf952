/** A run and its rounds as the terminal shows them. */
import type { RoundRow, RunDetail } from '../api/contract.ts';
import type { PrivacySettings } from '../config/round-options.ts';
import { preparingRounds } from '../config/run-config.ts';
import { describeFloors } from '../evaluation/floors.ts';
import { describePause } from './describe-pause.ts';
import { formatBytes, formatLoss, formatPercent, formatTable } from './format.ts';
import { describeMetrics } from './metrics-table.ts';

interface Column {
  name: string;
  /** Right-aligned otherwise. */
  isText?: boolean;
  /** True when absent. */
  isShown?: boolean;
  cell(round: RoundRow): string;
}

/** Columns that only some runs have are left out of the others. */
export function describeRun(run: RunDetail): string {
  const { done, config } = run;
  const all: Column[] = [
    { name: 'round', cell: (round) => String(round.round + 1) },
    { name: 'stage', isText: true, cell: (round) => stageName(config, round) },
    { name: 'rank', cell: (round) => String(round.rank) },
    {
      name: 'sites',
      isShown: done.some((round) => round.participants !== null),
      cell: (round) => String(round.participants?.length ?? round.sites.length),
    },
    { name: 'up', cell: (round) => formatBytes(round.bytesUp) },
    { name: 'down', cell: (round) => formatBytes(round.bytesDown) },
    { name: 'loss', cell: (round) => formatLoss(round.meanLoss) },
    { name: 'accuracy', cell: (round) => formatPercent(round.accuracy) },
    { name: 'kept', cell: (round) => formatPercent(round.energyKept) },
    { name: 'drift', cell: (round) => formatPercent(round.drift?.share ?? null) },
    {
      name: 'left out',
      isShown: done.some((round) => round.exclusions.length > 0),
      isText: true,
      cell: (round) => round.exclusions.map(({ siteName }) => siteName).join(', '),
    },
    {
      name: 'ε',
      isShown: config.privacy !== null,
      cell: (round) => (round.epsilon === null ? '–' : round.epsilon.toFixed(2)),
    },
  ];
  const columns = all.filter((column) => column.isShown ?? true);
  const metrics = describeMetrics(run);
  const rightAligned = columns.flatMap(({ isText }, index) => (isText === true ? [] : [index]));
  return [
    `Run ${run.id} (${run.strategy}): ${run.status}, round ${run.round + 1} of ${run.rounds}.`,
    ...(run.pause === null ? [] : [describePause(run.pause)]),
    formatTable(
      columns.map(({ name }) => name),
      done.map((round) => columns.map(({ cell }) => cell(round))),
      rightAligned,
    ),
    ...describeAbsences(run),
    ...(run.withdrawal === null ? [] : [describeWithdrawal(run.id, run.withdrawal)]),
    ...(metrics === null ? [] : [metrics]),
    ...describeFloor(run),
    ...(config.privacy === null ? [] : [describePrivacy(config.privacy)]),
  ].join('\n');
}

/** The round that makes the head's start has the stage of those that it comes before. */
const stageName = (config: RunDetail['config'], { round, stage }: RoundRow) =>
  round < preparingRounds(config) ? 'class means' : stage;

function describeFloor({ floors, belowFloor }: RunDetail): string[] {
  const said = describeFloors(floors);
  return [...(said === null ? [] : [said]), ...(belowFloor === null ? [] : [belowFloor])];
}

const describeWithdrawal = (runId: string, { note }: NonNullable<RunDetail['withdrawal']>) =>
  `${note}\n"anneal coordinator restart ${runId} --before-withdrawal" begins again from before that.`;

/** Who said that it takes no part in the newest round, or was refused, and why. */
function describeAbsences({ done }: RunDetail): string[] {
  const rows = done.at(-1)?.sites.filter(({ status }) => status === 'absent' || status === 'rejected') ?? [];
  return rows.map(({ siteName, reason }) => `${siteName}: ${reason ?? 'takes no part in this round'}`);
}

function describePrivacy({ at, clipNorm, noiseMultiplier, delta }: PrivacySettings): string {
  if (noiseMultiplier === 0)
    return `Changes are clipped to ${clipNorm}; without noise, that guarantees nothing.`;
  const whom = at === 'site' ? 'everyone but the site itself' : 'everyone but the coordinator';
  return `ε at δ = ${delta}: a site's part in the updates is protected from ${whom}. Clipped to ${clipNorm}, noise ${noiseMultiplier}.`;
}
