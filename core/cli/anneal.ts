#!/usr/bin/env node
/** The `anneal` command. */
import { Command, CommanderError } from 'commander';
import { version } from '../agent/version.ts';
import { watchParent } from '../process/parent-watch.ts';
import { AppError } from '../shared/errors.ts';
import { addAdapterCommands } from './commands/adapters.ts';
import { addAuditCommands } from './commands/audit.ts';
import { addBackupCommands } from './commands/backup.ts';
import { addConsentCommands } from './commands/consent.ts';
import { addCoordinatorCommands } from './commands/coordinator.ts';
import { addDemoCommand } from './commands/demo.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addModelCommands } from './commands/models.ts';
import { addPlanCommand } from './commands/plan.ts';
import { addReportCommand } from './commands/report.ts';
import { addServeCommand } from './commands/serve.ts';
import { addSimulateCommand } from './commands/simulate.ts';
import { addSiteCommands } from './commands/site.ts';
import { addStartFreshCommand } from './commands/start-fresh.ts';
import { addTraceCommand } from './commands/trace.ts';
import { addUserCommands } from './commands/users.ts';
import { endWithReader, printError } from './output.ts';
import { actAs } from './with-agent.ts';

const asJson = process.argv.includes('--json');
endWithReader();
watchParent();

const program = new Command('anneal')
  .description('Federated LoRA fine-tuning of a face model: no photograph leaves its hospital.')
  .version(version)
  .option('--as <name>', 'act as this user account; its password is asked for, or read from standard input')
  .hook('preAction', (root) => actAs(root.opts<{ as?: string }>().as))
  .showHelpAfterError('(add --help for the options)')
  // Set before the commands are added: they inherit both. A script reads mistakes in the call as JSON, too.
  .exitOverride()
  .configureOutput(asJson ? { writeErr: () => {} } : {})
  .addHelpText(
    'after',
    `
Start here:
  anneal demo                        one coordinator and three sites on this machine
  anneal serve                       the screens in a browser
  anneal coordinator start --help    run a federation
  anneal site join --help            take part in one
  anneal plan --base vit-base        what a run would send, before you start it
  anneal simulate --help             compare methods on this machine (docs/simulation.md)

Anneal keeps its data in --data FOLDER, else in $ANNEAL_DATA, else where the operating system keeps application data.
Every command exits with 0 on success, with 1 after an error (one sentence and what to do, on standard error;
with --json as one line of JSON on standard output), and with 130 when Ctrl-C interrupted it.`,
  );

addDemoCommand(program);
addCoordinatorCommands(program);
addSiteCommands(program);
addConsentCommands(program);
addTraceCommand(program);
addAdapterCommands(program);
addAuditCommands(program);
addBackupCommands(program);
addModelCommands(program);
addPlanCommand(program);
addServeCommand(program);
addDoctorCommand(program);
addSimulateCommand(program);
addReportCommand(program);
addUserCommands(program);
addStartFreshCommand(program);

try {
  await program.parseAsync();
} catch (thrown) {
  // Commander has said what is wrong with the call, or printed the help that was asked for.
  if (!(thrown instanceof CommanderError)) printError(thrown, asJson);
  else if (thrown.exitCode !== 0 && asJson) printError(describeMisuse(thrown), asJson);
  process.exitCode = thrown instanceof CommanderError ? thrown.exitCode : 1;
}

function describeMisuse({ message }: CommanderError): AppError {
  const sentence = message.replace(/^error: /, '').replace(/^./, (letter) => letter.toUpperCase());
  return new AppError('CONFIG_INVALID', /[.?]$/.test(sentence) ? sentence : `${sentence}.`, {
    action: 'Add --help for the options.',
  });
}
