/** `anneal consent document …`: scans of signed consent forms. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { writeNewFile } from '../../store/atomic-file.ts';
import { readWholeNumber } from '../arguments.ts';
import { formatBytes, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { withAgent } from '../with-agent.ts';

export function addConsentDocumentCommands(consent: Command): void {
  const documents = consent.command('document').description('scans of signed consent forms');

  documents
    .command('add')
    .description('keep a scan (PDF, JPEG or PNG, at most 10 MB) beside a consent')
    .argument('<pseudonym>', 'of the subject')
    .argument('<file>', 'the scan')
    .option(
      '--consent <number>',
      'number of the consent or withdrawal; the newest consent when absent',
      readWholeNumber,
    )
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (pseudonym: string, file: string, options) => {
      const added = await withAgent(options.data, (client) =>
        // The agent may run in another folder.
        client.subjects.addDocument.mutate({ pseudonym, file: resolve(file), eventId: options.consent }),
      );
      if (options.json) return printJson(added);
      printLine(
        `Scan ${added.id} kept beside consent ${added.consentEventId} (${formatBytes(added.sizeBytes)}).`,
      );
    });

  documents
    .command('list')
    .description('consents of a subject with their numbers and scans')
    .argument('<pseudonym>', 'of the subject')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (pseudonym: string, options) => {
      const { timeline } = await withAgent(options.data, (client) =>
        client.subjects.get.query({ pseudonym }),
      );
      const recorded = timeline.filter(({ change }) => change !== 'ended');
      const rows = recorded.map(({ eventId, at, change, purpose, documents: scans }) => ({
        consent: eventId,
        ...{ recordedAt: at, change, purpose, scans },
      }));
      if (options.json) return printJson(rows);
      printLine(
        formatTable(
          ['consent', 'recorded', 'what', 'purpose', 'scans'],
          rows.map((row) => [
            String(row.consent),
            row.recordedAt.slice(0, 10),
            row.change,
            row.purpose ?? 'every purpose',
            row.scans.map(({ id, mediaType }) => `${id} (${mediaType})`).join(', '),
          ]),
        ),
      );
    });

  documents
    .command('save')
    .description('write a scan to a file')
    .argument('<number>', 'of the scan', readWholeNumber)
    .requiredOption('--out <file>', 'file to write; it must not be there yet')
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (id: number, options) => {
      const { base64, mediaType } = await withAgent(options.data, (client) =>
        client.subjects.document.query({ id }),
      );
      await writeNewFile(options.out, Buffer.from(base64, 'base64'));
      if (options.json) printJson({ file: resolve(options.out), mediaType });
      else printLine(`Written: ${options.out}`);
    });

  documents
    .command('remove')
    .description('take away a scan, such as one of another patient, with its file')
    .argument('<number>', 'of the scan', readWholeNumber)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (id: number, options) => {
      await withAgent(options.data, (client) => client.subjects.removeDocument.mutate({ id }));
      if (options.json) printJson({ removed: id });
      else printLine(`Scan ${id} removed.`);
    });
}
