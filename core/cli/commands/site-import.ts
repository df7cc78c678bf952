/** `anneal site import`: a folder of images with its table, or a preview of it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { ImportReport } from '../../api/contract.ts';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { writeNewFile } from '../../store/atomic-file.ts';
import { formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { addTableOptions, type TableOptions, tableRequestOf } from '../table-options.ts';
import { describeConsents, describePreview } from '../table-preview.ts';
import { withAgent } from '../with-agent.ts';

interface ImportOptions extends TableOptions {
  images: string;
  labels: string;
  alreadyCropped: boolean;
  preview: boolean;
  errors?: string;
  data?: string;
  json: boolean;
}

const duplicateKinds = {
  'two-subjects': 'one person under two pseudonyms?',
  'both-splits': 'trained and held out',
  'same-split': 'counted twice',
} as const satisfies Record<ImportReport['duplicates'][number]['kind'], string>;

export function addSiteImport(site: Command): void {
  const command = site
    .command('import')
    .description('import a folder of images with a table of labels and consents')
    .requiredOption(
      '--images <folder>',
      'folder of images: JPEG, PNG, WebP, TIFF, AVIF, HEIC, BMP, PGM, PPM, DICOM photographs',
    )
    .requiredOption(
      '--labels <file>',
      'CSV or .xlsx: file, subject, label and optionally split, consent, consent_document, consent_from, consent_expires',
    )
    .option('--already-cropped', 'the images are aligned face crops; skip face detection', false)
    .option('--preview', 'only show what the import would do; nothing is recorded', false)
    .option(
      '--errors <file>',
      'with --preview: write all problems to this CSV file; it must not be there yet',
    )
    .option('--data <folder>', 'data folder')
    .option('--json', 'print JSON', false);
  addTableOptions(command).action((options: ImportOptions) =>
    options.preview ? preview(options) : importImages(options),
  );
}

/** The agent may run in another folder. */
const filesOf = (options: ImportOptions) => ({
  imagesFolder: resolve(options.images),
  labelsFile: resolve(options.labels),
  table: tableRequestOf(options),
});

async function preview(options: ImportOptions): Promise<void> {
  const found = await withAgent(options.data, (client) => client.site.previewImport.mutate(filesOf(options)));
  if (options.errors !== undefined) await writeNewFile(resolve(options.errors), found.problemsCsv ?? '');
  if (options.json) printJson(found);
  else for (const line of describePreview(found)) printLine(line);
}

async function importImages(options: ImportOptions): Promise<void> {
  if (options.errors !== undefined) {
    throw new AppError('CONFIG_INVALID', '"--errors" belongs to "--preview".', {
      action: 'Add --preview, or leave out --errors.',
    });
  }
  const { alreadyCropped } = options;
  const report = await withAgent(options.data, (client) =>
    client.site.import.mutate({ ...filesOf(options), alreadyCropped }),
  );
  if (options.json) printJson(report);
  else for (const line of describeReport(report)) printLine(line);
}

function describeReport(report: ImportReport): string[] {
  return [
    `${plural(report.imported, 'image')} imported, ${report.setAside.length} set aside, ${report.alreadyThere} already there.`,
    ...(report.withoutConsent > 0
      ? [`Without active consent, and so not used: ${report.withoutConsent}.`]
      : []),
    ...describeConsents(report),
    formatTable(
      ['label', 'training', 'held out'],
      Object.entries(report.byLabel).map(([label, count]) => [
        label,
        String(count.train),
        String(count.test),
      ]),
      [1, 2],
    ),
    ...report.setAside.slice(0, 20).map((row) => `set aside: ${row.sourceName}: ${row.reason}`),
    ...report.duplicates
      .slice(0, 20)
      .map(
        ({ kind, images }) =>
          `nearly the same picture (${duplicateKinds[kind]}): ${images.map(({ sourceName, pseudonym }) => `${sourceName} of ${pseudonym}`).join(' and ')}`,
      ),
  ];
}
