/** Consents from files and into files. */
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { exportFhirConsents, type FhirExport } from '../consent/fhir/export-consents.ts';
import { type FhirImportReport, importFhirConsentsInTurns } from '../consent/fhir/import-consents.ts';
import { fhirChangesSchema, fhirOptions } from '../consent/fhir/purpose-map.ts';
import { maxFhirBytes } from '../consent/fhir/read-resources.ts';
import { type ConsentsReport, importConsentTable } from '../data/consent-table.ts';
import { type ImportPreview, previewImport } from '../data/import-preview.ts';
import { tableRequestSchema } from '../data/tables/request.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { readNamedFile, writeNewFile } from '../store/atomic-file.ts';
import type { AgentContext } from './context.ts';
import { managing, router, viewing } from './trpc.ts';

const path = z.string().min(1).max(4096);

const importSchema = z.strictObject({
  file: path,
  /** What a person says about a file of FHIR consents; remembered. */
  fhir: fhirChangesSchema.optional(),
  /** What a person says about a table. */
  table: tableRequestSchema.optional(),
  /** Says what would be recorded, and records nothing. */
  preview: z.boolean().default(false),
});
type ImportInput = z.infer<typeof importSchema>;

export type FhirReport = FhirImportReport;
/** By what the file holds, whatever its name. */
export type ConsentFileReport =
  | ({ format: 'fhir' } & FhirReport)
  | ({ format: 'table' } & ConsentsReport)
  | { format: 'table preview'; table: ImportPreview };

export const consentFilesRouter = router({
  /** How FHIR consents are read: the codes of the hospital and the system of its pseudonyms. */
  fhirOptions: viewing.query(({ ctx }) => fhirOptions(ctx.agent.store)),
  import: managing
    .input(importSchema)
    .mutation(async ({ ctx: { agent, actor }, input }): Promise<ConsentFileReport> => {
      const report = (await isFhir(input.file))
        ? await importFhir(agent, actor, input)
        : await importTable(agent, actor, input);
      if (!input.preview) agent.emit({ type: 'changed', what: 'dataset' });
      return report;
    }),
  export: managing
    .input(
      z.strictObject({ file: path, layout: z.enum(['bundle', 'ndjson']), force: z.boolean().default(false) }),
    )
    .mutation(async ({ ctx: { agent, actor }, input }): Promise<Omit<FhirExport, 'text'>> => {
      const { text, ...counts } = exportFhirConsents(agent.store, input.layout);
      await writeNewFile(input.file, text, input.force);
      agent.store.audit.append({
        actor,
        action: 'consent.export',
        details: { format: 'fhir-r4', layout: input.layout, fileSha256: sha256(text), ...counts },
      });
      return counts;
    }),
});

async function importFhir(
  { store }: AgentContext,
  recordedBy: string,
  { file, fhir, table, preview }: ImportInput,
): Promise<ConsentFileReport> {
  if (table !== undefined) throw notMeantFor('a table', 'FHIR');
  const bytes = await readNamedFile(file, maxFhirBytes);
  const options = { recordedBy, changes: fhir, isPreview: preview };
  return { format: 'fhir', ...(await importFhirConsentsInTurns(store, bytes, options)) };
}

async function importTable(
  { store }: AgentContext,
  recordedBy: string,
  { file, fhir, table, preview }: ImportInput,
): Promise<ConsentFileReport> {
  if (fhir !== undefined) throw notMeantFor('FHIR', 'a table');
  if (!preview)
    return { format: 'table', ...(await importConsentTable({ store, file, request: table, recordedBy })) };
  const found = await previewImport({ store, file, kind: 'consents', request: table, imagesFolder: null });
  return { format: 'table preview', table: found };
}

const notMeantFor = (options: string, found: string) =>
  new AppError('CONFIG_INVALID', `These are options for ${options}, and the file is ${found}.`, {
    action: 'Leave them out, or choose the other file.',
  });

/** JSON begins with a bracket, and XML, which is refused as FHIR in a sentence, with another; no table does. */
async function isFhir(file: string): Promise<boolean> {
  const head = Buffer.alloc(256);
  try {
    await using handle = await open(file, 'r');
    await handle.read(head, 0, head.length, 0);
  } catch (error) {
    throw new AppError('FILE_UNREADABLE', 'The file could not be read.', { cause: error });
  }
  return /^\ufeff?\s*[{[<]/.test(head.toString('utf8'));
}
