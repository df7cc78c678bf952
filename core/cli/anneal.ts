#!/usr/bin/env node
/** The `anneal` command. */
import { Command } from 'commander';
import { version } from '../agent/version.ts';
import { addCoordinatorCommands } from './commands/coordinator.ts';
import { addDemoCommand } from './commands/demo.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addServeCommand } from './commands/serve.ts';
import { addSiteCommands } from './commands/site.ts';
import { printError } from './output.ts';

const program = new Command('anneal')
  .description('Federated LoRA fine-tuning of a face model: no photograph leaves its hospital.')
  .version(version)
  .showHelpAfterError('(add --help for the options)')
  .addHelpText(
    'after',
    `
Start here:
  anneal demo                        one coordinator and three sites on this machine
  anneal serve                       the screens in a browser
  anneal coordinator start --help    run a federation
  anneal site join --help            take part in one

Data is kept in --data FOLDER, else in $ANNEAL_DATA, else where the operating system keeps application data.
Every command ends with 0 when it did what it says, 1 after an error (one sentence on standard error), 130 after Ctrl-C.`,
  );

addDemoCommand(program);
addCoordinatorCommands(program);
addSiteCommands(program);
addServeCommand(program);
addDoctorCommand(program);

try {
  await program.parseAsync();
} catch (thrown) {
  printError(thrown, process.argv.includes('--json'));
  process.exitCode = 1;
}
