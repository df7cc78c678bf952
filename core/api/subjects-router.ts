/** The page of one subject: images, consents with their scans, and corrections. */
import { z } from 'zod';
import { correctionSchema } from '../config/correction.ts';
import { addDocument, documentOf, removeDocument } from '../data/consent-documents.ts';
import { correctImages, reviewCorrection } from '../data/corrections.ts';
import { readOwnBlob } from '../store/read-own-blob.ts';
import { consentsChanged } from './consents-changed.ts';
import type { AgentContext } from './context.ts';
import { correctionSetting, subjectDetail, subjectImages } from './subject-view.ts';
import { managing, router, viewing } from './trpc.ts';

const pseudonym = z.object({ pseudonym: z.string().min(1).max(200) });
const document = z.object({ id: z.int().positive() });

const documentsOf = ({ agent, actor }: { agent: AgentContext; actor: string }) => ({
  store: agent.store,
  blobs: agent.blobs,
  actor,
});

const damagedScan = {
  message: 'This scan is damaged on this disk.',
  action: 'Attach the scan again, or restore the data folder from a backup.',
};

export const subjectsRouter = router({
  get: viewing.input(pseudonym).query(({ ctx, input }) => subjectDetail(ctx.agent.store, input.pseudonym)),
  /** A page of images with their crops as pictures. */
  images: viewing
    .input(
      pseudonym.extend({
        offset: z.int().min(0).default(0),
        limit: z.int().min(1).max(48).default(24),
        pictures: z.boolean().default(true),
      }),
    )
    .query(({ ctx, input }) => subjectImages(ctx.agent.store, ctx.agent.blobs, input)),
  /** What a correction would change, and what it would ask. */
  reviewCorrection: viewing
    .input(correctionSchema)
    .query(({ ctx: { agent }, input }) =>
      reviewCorrection(agent.store, input, correctionSetting(agent.store)),
    ),
  correct: managing.input(correctionSchema).mutation(({ ctx: { agent, actor }, input }) => {
    const done = correctImages(agent.store, input, { ...correctionSetting(agent.store), actor });
    consentsChanged(agent);
    return done;
  }),
  /** The scan of a consent form, from a path on the machine of the agent. */
  addDocument: managing
    .input(pseudonym.extend({ eventId: z.int().positive().optional(), file: z.string().min(1).max(4096) }))
    .mutation(async ({ ctx, input }) => {
      const added = await addDocument(documentsOf(ctx), input);
      consentsChanged(ctx.agent);
      return added;
    }),
  removeDocument: managing.input(document).mutation(async ({ ctx, input }) => {
    await removeDocument(documentsOf(ctx), input.id);
    consentsChanged(ctx.agent);
  }),
  /** A scan itself, which names the patient: for those who look after the data. */
  document: managing.input(document).query(async ({ ctx: { agent }, input }) => {
    const { sha256, mediaType } = documentOf(agent.store, input.id);
    const bytes = await readOwnBlob(agent.blobs, sha256, damagedScan);
    return { mediaType, base64: Buffer.from(bytes).toString('base64') };
  }),
});
