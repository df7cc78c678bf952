/** `anneal consent import | export`. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ConsentFileReport } from '../../api/consent-files-router.ts';
import { type FhirChanges, parsePurposeMapping } from '../../consent/fhir/purpose-map.ts';
import { isTable } from '../../data/tables/is-table.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { readList } from '../arguments.ts';
import { printJson, printLine } from '../output.ts';
import { addTableOptions } from '../table-options.ts';
import { withAgent } from '../with-agent.ts';
import { importConsentList } from './consent-table.ts';

export function addConsentFileCommands(consent: Command): void {
  addImport(consent);
  addExport(consent);
}

function addImport(consent: Command): void {
  const command = consent
    .command('import <file>')
    .description(
      'record what a file of HL7 FHIR R4 Consents says (a Bundle, NDJSON, or one resource; docs/fhir.md), or a list in CSV or .xlsx (docs/import.md)',
    )
    .option('--identifier-system <uri>', 'system of the identifier that is the pseudonym; remembered')
    .option('--patient-id', 'the pseudonym is the id in Patient/ID; remembered', false)
    .option(
      '--purpose-map <code=purpose>',
      'what a code of the consents stands for, such as CODE=federated-training or SYSTEM|CODE=…; may be repeated; remembered',
      (text: string, earlier: string[]) => [...earlier, text],
      [],
    )
    .option('--forget-codes <codes>', 'codes that stand for nothing any more', readList)
    .option('--preview', 'say what would be recorded, and record nothing', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false);
  addTableOptions(command).action(async (file: string, options) => {
    const isList = await isTable(file);
    const fhir: FhirChanges = {
      ...(options.purposeMap.length > 0 ? { purposes: options.purposeMap.map(parsePurposeMapping) } : {}),
      ...(options.patientId ? { identifierSystem: null } : {}),
      ...(options.identifierSystem === undefined ? {} : { identifierSystem: options.identifierSystem }),
      ...(options.forgetCodes === undefined ? {} : { forget: options.forgetCodes }),
    };
    if (isList && Object.keys(fhir).length > 0) {
      throw new AppError('CONFIG_INVALID', 'These are options for FHIR, and the file is a table.', {
        action: 'Leave them out, or choose the other file.',
      });
    }
    if (isList) return importConsentList(file, options);
    const report = await withAgent(options.data, (client) =>
      client.consentFiles.import.mutate({
        // The agent may run in another folder.
        file: resolve(file),
        preview: options.preview,
        ...(Object.keys(fhir).length > 0 ? { fhir } : {}),
      }),
    );
    if (options.json) printJson(report);
    else for (const line of describe(report, options.preview)) printLine(line);
    if (report.problems.length > 0) process.exitCode = 1;
  });
}

const longestList = 20;

function listed(words: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length - longestList;
  const shown = names.slice(0, longestList).join(', ');
  return [`${words}: ${shown}${more > 0 ? ` and ${more} more` : ''}.`];
}

function describe(report: ConsentFileReport, isPreview: boolean): string[] {
  const { problems, heldBack, unmapped, notUsed } = report;
  return [
    `${plural(report.consents, 'consent')} read${isPreview ? '; nothing was recorded' : ''}.`,
    ...(report.isPartOfMore ? ['This file is one page of several: import the others, too.'] : []),
    ...listed('Recorded', report.recorded),
    ...listed('Of these, given after a withdrawal', report.reconsented),
    ...listed('Withdrawn or ended', report.withdrawn),
    ...listed(
      'Still withdrawn, because the consent is not certainly newer than the withdrawal',
      report.stillWithdrawn,
    ),
    ...(report.unchanged > 0
      ? [`${plural(report.unchanged, 'consent')} known already, or older than what is recorded.`]
      : []),
    ...listed('No such subject here; none was made', report.unknown),
    ...listed(
      'Gave no grant',
      notUsed.map(({ place, subject, reason }) => `${subject} (${place}: ${reason})`),
    ),
    ...listed(
      'Codes that stand for no purpose of this site (--purpose-map)',
      unmapped.map(({ code, consents }) => `${code} in ${consents}`),
    ),
    ...(report.withoutNames > 0
      ? [`Names and texts for people were left out of ${plural(report.withoutNames, 'consent')}.`]
      : []),
    ...problems.slice(0, 100).map(({ place, message }) => `Problem: ${place} ${message}.`),
    ...(problems.length > 100 ? [`… and ${problems.length - 100} more problems.`] : []),
    ...(heldBack > 0
      ? [`${plural(heldBack, 'consent')} held back: grants are recorded when the whole file is understood.`]
      : []),
  ];
}

function addExport(consent: Command): void {
  consent
    .command('export <file>')
    .description("write every subject's consents as HL7 FHIR R4: a Bundle, or NDJSON")
    .option('--ndjson', 'one resource per line instead of a Bundle', false)
    .option('--force', 'replace the file if it exists', false)
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false)
    .action(async (file: string, options) => {
      const counts = await withAgent(options.data, (client) =>
        client.consentFiles.export.mutate({
          file: resolve(file),
          layout: options.ndjson ? 'ndjson' : 'bundle',
          force: options.force,
        }),
      );
      if (options.json) return printJson(counts);
      printLine(
        `${plural(counts.consents, 'consent')} of ${plural(counts.subjects, 'subject')} written, ${counts.asRead} as they were read. The file holds pseudonyms: keep it as you keep the list of subjects.`,
      );
    });
}
