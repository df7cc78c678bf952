/** Import of a folder of images with its table: what it would do, and doing it. */
import { importRequestSchema } from '../data/import-request.ts';
import { managing } from './trpc.ts';

export const importProcedures = {
  import: managing
    .input(importRequestSchema)
    .mutation(({ ctx, input }) => ctx.agent.importImages(input, ctx.actor)),
  /** Records nothing. A mutation, since its answers do not fit into an address. */
  previewImport: managing
    .input(importRequestSchema.omit({ alreadyCropped: true }))
    .mutation(({ ctx, input }) => ctx.agent.previewImport(input)),
};
