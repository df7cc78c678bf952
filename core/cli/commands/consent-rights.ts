/** `anneal consent report | erase | keep-images | retention`: the rights of a person. docs/rights.md has what they mean. */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { ErasedSubject, RetentionState } from '../../api/contract.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { writeNewFile } from '../../store/atomic-file.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

const data = ['--data <folder>', 'data folder'] as const;
const json = ['--json', 'print JSON', false] as const;
const subject = ['--subject <pseudonym>', 'pseudonym of the person'] as const;

/** One person's paper is for nobody else on the machine. */
const writePdf = (file: string, base64: string) => writeNewFile(file, Buffer.from(base64, 'base64'));

function addReport(consent: Command): void {
  consent
    .command('report')
    .description(
      'what is stored of a person, what it was used for and who got what: report.json and report.pdf',
    )
    .argument('<pseudonym>', 'pseudonym of the person')
    .requiredOption('--out <folder>', 'folder to write into; files that are there already are not replaced')
    .option(...data)
    .option(...json)
    .action(async (pseudonym: string, options) => {
      const { report, pdf } = await withAgent(options.data, (client) =>
        client.rights.report.query({ pseudonym }),
      );
      const folder = resolve(options.out);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await writeNewFile(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
      await writePdf(join(folder, 'report.pdf'), pdf);
      if (options.json) printJson(report);
      else printLine(`The report on "${pseudonym}" is written: report.json and report.pdf.`);
    });
}

function describe({ erasure, backupsBefore }: ErasedSubject, pseudonym: string): string {
  const { images, consents, files, runs, tombstone, doneAt, askedAt } = erasure;
  const versions = runs.flatMap((run) => run.versions);
  return [
    `"${pseudonym}" is erased (asked for on ${askedAt.slice(0, 10)}): ${plural(images, 'image')}, ${plural(consents.length, 'consent event')}, ${plural(files, 'file')}.`,
    ...(doneAt === null ? ['Some files are still to be deleted; Anneal goes on by itself.'] : []),
    versions.length === 0
      ? 'No model was trained or evaluated on the images.'
      : `Not undone: ${plural(versions.length, 'version')} of models in ${plural(runs.length, 'run')} that have to do with the images.`,
    `Entry ${tombstone.seq} of the audit trail says so.`,
    ...(backupsBefore === 0
      ? []
      : [
          `${plural(backupsBefore, 'backup')} from before still ${backupsBefore === 1 ? 'holds' : 'hold'} the person: make a new one and delete ${backupsBefore === 1 ? 'it' : 'them'} (docs/backup.md).`,
        ]),
  ].join('\n');
}

function addErase(consent: Command): void {
  consent
    .command('erase')
    .description('erase everything that is stored of a person; cannot be undone')
    .argument('<pseudonym>', 'pseudonym of the person')
    .option('--yes', 'do not only say what would be erased', false)
    .option('--certificate <file>', 'write the certificate (PDF) to this file')
    .option(...data)
    .option(...json)
    .action(async (pseudonym: string, options) => {
      if (!options.yes)
        throw new AppError('CONFIG_INVALID', `Nothing was erased: this cannot be undone.`, {
          action: `Look at "anneal consent report" first, then give --yes to erase "${pseudonym}".`,
        });
      const { erased, proposed } = await withAgent(options.data, (client) =>
        client.rights.erase.mutate({ pseudonym }),
      );
      if (erased === null) {
        const until = proposed?.expiresAt.slice(0, 10);
        if (options.json) printJson({ proposed });
        else
          printLine(
            `Nothing is erased yet: a second person has to confirm it until ${until}, with the same command.`,
          );
        return;
      }
      if (options.certificate !== undefined) await writePdf(resolve(options.certificate), erased.certificate);
      if (options.json) return printJson(erased.erasure);
      printLine(describe(erased, pseudonym));
      if (options.certificate === undefined)
        printLine('For the paper: the same command once more with --certificate FILE.pdf.');
    });
}

function addKeepImages(consent: Command): void {
  consent
    .command('keep-images')
    .description('whether the crops of a person stay when no consent holds any more, as the person chose')
    .requiredOption(...subject)
    .addOption(new Option('--keep <answer>', 'the choice').choices(['yes', 'no']).makeOptionMandatory())
    .option(...data)
    .option(...json)
    .action(async (options) => {
      const kept = await withAgent(options.data, (client) =>
        client.rights.keepImages.mutate({ pseudonym: options.subject, keep: options.keep === 'yes' }),
      );
      if (options.json) printJson(kept);
      else
        printLine(
          kept.kept
            ? `The crops of "${options.subject}" stay, also without a consent. Nothing uses them then.`
            : `The crops of "${options.subject}" go with the last consent.`,
        );
    });
}

function describeRetention({ waiting, deleted, unfinishedErasures }: RetentionState): string {
  return [
    deleted === null
      ? 'No crops were deleted for want of a consent so far.'
      : `Crops were last deleted for want of a consent on ${deleted.slice(0, 10)}.`,
    ...(waiting === 0
      ? []
      : [
          `Of ${plural(waiting, 'subject')} crops are due, but the clock has jumped ahead. They are deleted when Anneal has run for a day, or with --clock-is-right.`,
        ]),
    ...(unfinishedErasures === 0 ? [] : [`${plural(unfinishedErasures, 'erasure')} not finished yet.`]),
  ].join('\n');
}

function addRetention(consent: Command): void {
  consent
    .command('retention')
    .description('what was deleted and what waits to be deleted because no consent holds')
    .option('--clock-is-right', 'the date and time of this computer were checked', false)
    .option(...data)
    .option(...json)
    .action(async (options) => {
      const state = await withAgent(options.data, (client) =>
        options.clockIsRight ? client.rights.clockIsRight.mutate() : client.rights.retention.query(),
      );
      if (options.json) printJson(state);
      else printLine(describeRetention(state));
    });
}

function addErasures(consent: Command): void {
  consent
    .command('erasures')
    .description(
      'write the list of erasures, by keyed hash: "anneal restore --erasures" erases again who is in an older backup',
    )
    .requiredOption('--out <file>', 'file to write')
    .option('--force', 'replace the file that is there', false)
    .option(...data)
    .option(...json)
    .action(async (options) => {
      const list = await withAgent(options.data, (client) => client.rights.erasures.query());
      await writeNewFile(resolve(options.out), `${JSON.stringify(list, null, 2)}\n`, options.force);
      if (options.json) printJson(list);
      else
        printLine(
          `${plural(list.erasures.length, 'erasure')} written. Keep the file apart from the backups; it names nobody.`,
        );
    });
}

export function addConsentRightsCommands(consent: Command): void {
  addReport(consent);
  addErase(consent);
  addKeepImages(consent);
  addRetention(consent);
  addErasures(consent);
}
