/** What the terminal shows while the simulation runs: a bar with the time left on a terminal, a line for each event elsewhere. */
import { createLogUpdate } from 'log-update';
import { plural } from '../../shared/text.ts';
import { describeRun } from '../../simulation/run-selection.ts';
import type { SimulatedRun } from '../../simulation/simulate-run.ts';
import type { SimulationEvent } from '../../simulation/simulation.ts';
import { formatBar, formatBytes, formatPercent } from '../format.ts';

export interface SimulationProgress {
  onImport(progress: { done: number; total: number }): void;
  /** Call it before the runs begin. @param done rounds of runs that are finished already */
  begin(runs: readonly SimulatedRun[], done: { runs: number; rounds: number }): void;
  onEvent(event: SimulationEvent): void;
  end(): void;
}

/** How often the clock alone redraws the bar. */
const redrawMs = 1_000;

export function createSimulationProgress(stream: NodeJS.WriteStream): SimulationProgress {
  const redraws = stream.isTTY === true;
  const update = createLogUpdate(stream);
  const left = createTimeLeft();
  const active = new Map<string, { run: SimulatedRun; rounds: number; accuracy: number | null }>();
  const counts = { runs: 0, ended: 0, rounds: 0, endedRounds: 0 };
  let timer: NodeJS.Timeout | undefined;
  let lastImport = 0;

  function say(line: string): void {
    if (redraws) update.clear();
    stream.write(`${line}\n`);
    draw();
  }

  function draw(): void {
    if (!redraws || counts.runs === 0) return;
    const rounds = counts.endedRounds + [...active.values()].reduce((sum, { rounds: done }) => sum + done, 0);
    const share = rounds / Math.max(1, counts.rounds);
    const lines = [...active.values()].map(
      ({ run, rounds: done, accuracy }) =>
        `  ${describeRun(run)}: round ${done}/${run.config.rounds}, accuracy ${formatPercent(accuracy)}`,
    );
    const head = `${formatBar(share, 30)} ${counts.ended} of ${plural(counts.runs, 'run')}  ·  ${left.text()}`;
    update([head, ...lines].join('\n'));
  }

  return {
    onImport({ done, total }) {
      if (redraws) update(`images ${formatBar(done / total, 30)} ${done} of ${total}`);
      else if (done === total || done - lastImport >= 1000) {
        lastImport = done;
        stream.write(`images: ${done} of ${total}\n`);
      }
    },
    begin(runs, done) {
      if (redraws) update.clear();
      const rounds = runs.reduce((sum, run) => sum + run.config.rounds, 0);
      counts.runs = runs.length + done.runs;
      counts.ended = done.runs;
      counts.rounds = rounds + done.rounds;
      counts.endedRounds = done.rounds;
      left.begin(rounds);
      timer = setInterval(draw, redrawMs);
      timer.unref();
      draw();
    },
    onEvent(event) {
      const { run } = event;
      if (event.type === 'run-started') {
        active.set(run.id, { run, rounds: 0, accuracy: null });
      } else if (event.type === 'round') {
        active.set(run.id, { run, rounds: event.round.round + 1, accuracy: event.round.accuracy });
        left.round();
      } else {
        const missing = run.config.rounds - (active.get(run.id)?.rounds ?? 0);
        active.delete(run.id);
        counts.ended += 1;
        counts.endedRounds += run.config.rounds;
        left.skip(missing);
        const { line } = event;
        const where = `${counts.ended}/${counts.runs} ${describeRun(run)}`;
        const tail = redraws ? '' : `  (${left.text()})`;
        if (line.status === 'failed') say(`${where}: failed: ${line.error.message}${tail}`);
        else {
          const { accuracy } = line.final;
          say(
            `${where}: accuracy ${formatPercent(accuracy)}, sent ${formatBytes(line.totals.bytesSent)}${tail}`,
          );
        }
      }
      draw();
    },
    end() {
      clearInterval(timer);
      if (redraws) update.clear();
    },
  };
}

/** Time left from how long rounds took so far; strategies differ by less than the busy machine does. */
export function createTimeLeft(now: () => number = Date.now) {
  let startMs = now();
  let rounds = 0;
  let done = 0;
  return {
    begin(count: number) {
      startMs = now();
      rounds = count;
      done = 0;
    },
    round() {
      done += 1;
    },
    /** Rounds that will not be run, for instance of a failed run. */
    skip(count: number) {
      rounds -= count;
    },
    text(): string {
      if (done === 0) return 'time left: not known yet';
      const leftMs = ((now() - startMs) / done) * Math.max(0, rounds - done);
      return `about ${formatDuration(leftMs)} left`;
    },
  };
}

/** `2 h 05 min`, `12 min`, `40 s`. */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}
