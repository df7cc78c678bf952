/** Names of runs for people, and which of them are meant. */
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { Partition } from './record.ts';
import type { SimulatedRun } from './simulate-run.ts';

export function describePartition(partition: Partition): string {
  switch (partition.kind) {
    case 'iid':
      return 'iid';
    case 'dirichlet':
      return `dirichlet ${partition.alpha}`;
    case 'shards':
      return `shards ${partition.perSite}`;
    case 'column':
      return `by ${partition.column}`;
  }
}

/** `sa-fedlora, dirichlet 0.5, 10 sites, seed 3` */
export function describeRun(run: Pick<SimulatedRun, 'label' | 'partition' | 'seed' | 'sites'>): string {
  return `${run.label}, ${describePartition(run.partition)}, ${plural(run.sites.length, 'site')}, seed ${run.seed}`;
}

/**
 * Runs whose id begins with one of the given words, or whose description holds all parts of one, for instance
 * `fedavg-lora, seed 2`.
 * @throws AppError NOT_FOUND naming a word that means none
 */
export function selectRuns(runs: readonly SimulatedRun[], words: readonly string[]): SimulatedRun[] {
  const chosen = new Set<SimulatedRun>();
  for (const word of words) {
    const parts = word.split(',').map((part) => part.trim().toLowerCase());
    const matches = runs.filter(
      (run) =>
        (word.length >= 4 && run.id.startsWith(word)) ||
        parts.every((part) => describeRun(run).toLowerCase().split(', ').includes(part)),
    );
    if (matches.length === 0) {
      throw new AppError('NOT_FOUND', `No run of this experiment matches "${word}".`, {
        action: 'Add --list to see the runs and their ids.',
      });
    }
    for (const run of matches) chosen.add(run);
  }
  return runs.filter((run) => chosen.has(run));
}
