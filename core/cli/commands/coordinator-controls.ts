/** `anneal coordinator pause`, `resume` and `stop`: the run in progress, by hand. */
import type { Command } from 'commander';
import type { AgentClient } from '../../api/client.ts';
import type { RunSummary } from '../../api/contract.ts';
import { describePause } from '../describe-pause.ts';
import { printJson, printLine } from '../output.ts';
import { withRunningAgent } from '../with-agent.ts';

/** Without rounds: also of a run that cannot be read. */
export const describeControlled = (run: RunSummary): string =>
  [
    `Run ${run.id}: ${run.status}.`,
    ...(run.unreadable === null ? [] : [run.unreadable]),
    ...(run.pause === null ? [] : [describePause(run.pause)]),
  ].join(' ');

export function addRunControlCommands(coordinator: Command): void {
  const add = (
    name: string,
    description: string,
    act: (client: AgentClient, runId: string) => Promise<RunSummary>,
  ) =>
    coordinator
      .command(`${name} <run>`)
      .description(description)
      .option('--data <folder>', 'data folder')
      .option('--json', 'print JSON', false)
      .action((runId, options) =>
        withRunningAgent(options.data, async (client) => {
          const run = await act(client, runId);
          if (options.json) printJson(run);
          else printLine(describeControlled(run));
        }),
      );
  add('pause', 'pause a run: nothing happens in it until it is resumed', (client, runId) =>
    client.coordinator.pauseRun.mutate({ runId }),
  );
  add('resume', 'go on with a run that is paused or has failed', (client, runId) =>
    client.coordinator.resumeRun.mutate({ runId }),
  );
  add('stop', 'end a run; what is done so far stays', (client, runId) =>
    client.coordinator.stopRun.mutate({ runId }),
  );
}
