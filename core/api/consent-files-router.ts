/** Consents from files and into files. */
import { z } from 'zod';
import { exportFhirConsents, type FhirExport } from '../consent/fhir/export-consents.ts';
import { type FhirImportReport, importFhirConsentsInTurns } from '../consent/fhir/import-consents.ts';
import { fhirChangesSchema, fhirOptions } from '../consent/fhir/purpose-map.ts';
import { maxFhirBytes } from '../consent/fhir/read-resources.ts';
import { isTable } from '../data/tables/is-table.ts';
import { sha256 } from '../shared/hash.ts';
import { readNamedFile, writeNewFile } from '../store/atomic-file.ts';
import { consentsChanged } from './consents-changed.ts';
import { managing, router, viewing } from './trpc.ts';

const path = z.string().min(1).max(4096);

export type ConsentFileReport = FhirImportReport;

/** FHIR is read by `import` here, a table by `importConsents` of the site's router. */
export type ConsentFileFormat = 'fhir' | 'table';

export const consentFilesRouter = router({
  /** How FHIR consents are read: the codes of the hospital and the system of its pseudonyms. */
  fhirOptions: viewing.query(({ ctx }) => fhirOptions(ctx.agent.store)),
  format: managing
    .input(z.object({ file: path }))
    .query(async ({ input }): Promise<ConsentFileFormat> => ((await isTable(input.file)) ? 'table' : 'fhir')),
  import: managing
    .input(z.object({ file: path, fhir: fhirChangesSchema.optional(), preview: z.boolean().default(false) }))
    .mutation(async ({ ctx: { agent, actor }, input }): Promise<ConsentFileReport> => {
      const bytes = await readNamedFile(input.file, maxFhirBytes);
      const report = await importFhirConsentsInTurns(agent.store, bytes, {
        recordedBy: actor,
        changes: input.fhir,
        isPreview: input.preview,
      });
      if (!input.preview) consentsChanged(agent);
      return report;
    }),
  export: managing
    .input(z.object({ file: path, layout: z.enum(['bundle', 'ndjson']), force: z.boolean().default(false) }))
    .mutation(async ({ ctx: { agent, actor }, input }): Promise<Omit<FhirExport, 'text'>> => {
      const { text, ...counts } = exportFhirConsents(agent.store, input.layout);
      await writeNewFile(input.file, text, input.force);
      agent.store.audit.append({
        actor,
        action: 'consent.export',
        details: { format: 'fhir-r4', layout: input.layout, fileSha256: sha256(text), ...counts },
      });
      agent.emit({ type: 'changed', what: 'audit' });
      return counts;
    }),
});
