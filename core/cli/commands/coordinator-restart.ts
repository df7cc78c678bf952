/** `anneal coordinator restart`: begin a run again from before a withdrawal. */
import { type Command, InvalidArgumentError } from 'commander';
import type { RunSummary } from '../../api/contract.ts';
import { printJson, printLine } from '../output.ts';
import { withRunningAgent } from '../with-agent.ts';

/** `RUN:ROUND`, rounds counted from 1 as people see them. */
export function readVersion(text: string): { runId: string; round: number } {
  const [, runId, round] = /^([\w-]{1,64}):([1-9]\d{0,3})$/.exec(text) ?? [];
  if (runId === undefined) throw new InvalidArgumentError('Give RUN:ROUND, for instance 3f2a…:2.');
  return { runId, round: Number(round) - 1 };
}

/** "Run … started from round 2 of run …." */
export const describeStart = ({ id, startedFrom }: RunSummary): string =>
  startedFrom === null
    ? `Run ${id} started from a fresh adapter.`
    : `Run ${id} started from the result of round ${startedFrom.round + 1} of run ${startedFrom.runId}.`;

export function addRestartCommand(coordinator: Command): void {
  coordinator
    .command('restart <run>')
    .description(
      'start a run again, with the same settings, from the newest version before anybody in it had withdrawn',
    )
    .option('--before-withdrawal', 'the only point to start again from so far, and the default', true)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action((runId, options) =>
      withRunningAgent(options.data, async (client) => {
        const started = await client.coordinator.restartRun.mutate({ runId });
        if (options.json) printJson(started);
        else printLine(describeStart(started));
      }),
    );
}
