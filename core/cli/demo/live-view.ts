/** What the terminal shows while the demo runs: redrawn in place on a terminal, one line per event elsewhere. */
import { createLogUpdate } from 'log-update';
import type { RunDetail } from '../../api/contract.ts';
import { formatBar, formatBytes, formatLoss, formatPercent } from '../format.ts';

export interface LiveView {
  /** A line that stays. */
  say(line: string): void;
  /** The run as it is now. */
  show(title: string, run: RunDetail): void;
  end(): void;
}

function describeRound(run: RunDetail): string {
  const round = run.done.at(-1);
  if (round === undefined) return 'waiting for the sites';
  const sent = run.done.reduce((sum, row) => sum + row.bytesUp + row.bytesDown, 0);
  const accuracy = run.done.findLast((row) => row.accuracy !== null)?.accuracy ?? null;
  return [
    `round ${round.round + 1}/${run.rounds}`,
    round.stage,
    `rank ${round.rank}`,
    `accuracy ${formatPercent(accuracy)}`,
    `sent ${formatBytes(sent)}`,
  ].join('  ·  ');
}

function describeSites(run: RunDetail): string[] {
  const round = run.done.at(-1);
  if (round === undefined || round.status === 'closed') return [];
  return round.sites.map((site) => {
    const share = site.status === 'working' ? (site.step ?? 0) / Math.max(1, site.steps ?? 1) : 1;
    const status = site.status === 'working' ? `step ${site.step ?? 0}/${site.steps ?? '?'}` : site.status;
    return `  ${site.siteName.padEnd(14)} ${formatBar(share, 24)} ${status.padEnd(14)} loss ${formatLoss(site.meanLoss)}`;
  });
}

export function createLiveView(stream: NodeJS.WriteStream): LiveView {
  const redraws = stream.isTTY === true;
  const update = createLogUpdate(stream);
  const printed = new Set<string>();
  return {
    say(line) {
      if (redraws) update.clear();
      stream.write(`${line}\n`);
    },
    show(title, run) {
      if (redraws) {
        update([`${title}: ${describeRound(run)}`, ...describeSites(run)].join('\n'));
        return;
      }
      for (const round of run.done) {
        // A round's accuracy is known once the sites have evaluated its result.
        if (round.status !== 'closed' || round.accuracy === null) continue;
        const key = `${run.id} ${round.round}`;
        if (printed.has(key)) continue;
        printed.add(key);
        const figures = `loss ${formatLoss(round.meanLoss)}, accuracy ${formatPercent(round.accuracy)}, up ${formatBytes(round.bytesUp)}, down ${formatBytes(round.bytesDown)}`;
        stream.write(
          `${title}: round ${round.round + 1}/${run.rounds} ${round.stage}, rank ${round.rank}, ${figures}\n`,
        );
      }
    },
    end() {
      if (redraws) update.clear();
    },
  };
}
