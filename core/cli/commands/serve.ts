/** `anneal serve`: the screens in a browser, for servers and where Electron cannot be had. */
import type { Command } from 'commander';
import { readPort } from '../arguments.ts';
import { runInForeground } from '../with-agent.ts';

export function addServeCommand(program: Command): void {
  program
    .command('serve')
    .description('serve the screens on 127.0.0.1, protected by an access code')
    .option('--data <folder>', 'data folder')
    .option('--port <number>', 'port on 127.0.0.1; 0 picks a free one', readPort, 4747)
    .option('--approve', 'approve every run of the federation without asking', false)
    .option('--json', 'print the address and access code as JSON', false)
    .action((options) =>
      runInForeground(
        { dataFolder: options.data, uiPort: options.port, autoApprove: options.approve, json: options.json },
        async () => {},
      ),
    );
}
