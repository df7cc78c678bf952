/** `anneal start-fresh`: a data folder that cannot be repaired begins anew, and the old files are kept. */
import type { Command } from 'commander';
import { setInstallationAside } from '../../agent/installation.ts';
import { defaultDataFolder } from '../../agent/paths.ts';
import { AppError } from '../../shared/errors.ts';
import { printJson, printLine } from '../output.ts';

export function addStartFreshCommand(program: Command): void {
  program
    .command('start-fresh')
    .description('set the installation in the data folder aside and begin without it; nothing is deleted')
    .option('--data <folder>', 'data folder')
    .option('--yes', 'do it: consents, images and keys are not used any more', false)
    .option('--json', 'print JSON', false)
    .action((options) => {
      if (!options.yes)
        throw new AppError(
          'CONFIRMATION_NEEDED',
          'This installation would begin without its consents, images, audit trail and keys.',
          {
            action:
              'Restore the data folder from a backup if there is one. If there is none, add --yes: the old files are moved into a folder of their own.',
          },
        );
      const folder = setInstallationAside(options.data ?? defaultDataFolder());
      if (options.json) printJson({ setAside: folder });
      else if (folder === null) printLine('There is no installation in this data folder.');
      else printLine(`The old files are in ${folder}. Next: anneal serve, or anneal site join.`);
    });
}
