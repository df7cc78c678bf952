/** Import of tables, of images or of consents alone: what it would do, and doing it. */
import { importConsentTable } from '../data/consent-table.ts';
import { previewImport } from '../data/import-preview.ts';
import { consentTableRequestSchema, importRequestSchema } from '../data/import-request.ts';
import { consentsChanged } from './consents-changed.ts';
import { managing } from './trpc.ts';

export const importProcedures = {
  import: managing
    .input(importRequestSchema)
    .mutation(({ ctx, input }) => ctx.agent.importImages(input, ctx.actor)),
  /** Records nothing. A mutation, since its answers do not fit into an address. */
  previewImport: managing
    .input(importRequestSchema.omit({ alreadyCropped: true }))
    .mutation(({ ctx, input }) => ctx.agent.previewImport(input)),
  /** A list of consents alone, which makes no subjects. */
  importConsents: managing
    .input(consentTableRequestSchema)
    .mutation(async ({ ctx: { agent, actor }, input: { file, table: request } }) => {
      try {
        return await importConsentTable({ store: agent.store, file, request, recordedBy: actor });
      } finally {
        // Also after an error: clear withdrawals count all the same.
        consentsChanged(agent);
      }
    }),
  previewConsents: managing
    .input(consentTableRequestSchema)
    .mutation(({ ctx, input: { file, table: request } }) =>
      previewImport({ ...{ store: ctx.agent.store, file, request, kind: 'consents' }, imagesFolder: null }),
    ),
};
