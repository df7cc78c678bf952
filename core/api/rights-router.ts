/** The rights of a subject: what is stored, what it was used for, erasure; and how long crops stay. */
import { z } from 'zod';
import { knownBackups } from '../backup/known-backups.ts';
import { traceSubject } from '../consent/trace.ts';
import { erasureCertificate } from '../rights/certificate.ts';
import { actions, keepCrops } from '../rights/crop-retention.ts';
import { erasureList } from '../rights/erasure-list.ts';
import { subjectReport, subjectReportPdf, withLandmarks } from '../rights/subject-report.ts';
import { AppError } from '../shared/errors.ts';
import { consentsChanged } from './consents-changed.ts';
import type { AgentContext } from './context.ts';
import type { ErasedSubject, RetentionState } from './contract.ts';
import { administering, managing, router, viewing } from './trpc.ts';
import { eraseByPeople, proposedOf } from './two-people.ts';

const subject = z.strictObject({ pseudonym: z.string().min(1).max(200) });
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

function changed(agent: AgentContext): void {
  consentsChanged(agent);
  agent.emit({ type: 'changed', what: 'adapters' });
}

/** With the paper for the person: nothing here names the pseudonym any more. */
async function withCertificate(
  agent: AgentContext,
  erasure: ErasedSubject['erasure'],
  pseudonym: string,
): Promise<ErasedSubject> {
  const siteName = agent.status().name ?? 'a site that has not joined a federation';
  const writtenAt = agent.store.now();
  // What was made meanwhile shows the time before its rows went.
  const backups = knownBackups(agent.store).filter(({ madeAt }) => madeAt < (erasure.doneAt ?? writtenAt));
  const certificate = await erasureCertificate(erasure, { siteName, pseudonym, writtenAt, backups });
  return { erasure, certificate: base64(certificate), backupsBefore: backups.length };
}

function retentionState({ store, rights }: AgentContext): RetentionState {
  return {
    waiting: rights.waiting,
    deleted: store.audit.newestOf(actions.deleted)?.at ?? null,
    unfinishedErasures: store.erasures.unfinished().length,
  };
}

export const rightsRouter = router({
  trace: viewing.input(subject).query(({ ctx, input }) => traceSubject(ctx.agent.store, input.pseudonym)),
  /** JSON, and the same as a PDF (base64). */
  report: managing.input(subject).query(async ({ ctx: { agent }, input }) => {
    const { name, federation } = agent.status();
    const { store, blobs } = agent;
    const found = subjectReport(store, input.pseudonym, { site: name ?? '', federation });
    const report = await withLandmarks(found, blobs);
    return { report, pdf: base64(await subjectReportPdf(report)) };
  }),
  /** Everything that is stored of a subject goes. Cannot be undone. Where the policy asks for two people, the first proposes. */
  erase: managing.input(subject).mutation(async ({ ctx: { agent, person, actor }, input: { pseudonym } }) => {
    const { store, rights } = agent;
    const outcome = await eraseByPeople(store, person, pseudonym, () => rights.erase(pseudonym, actor));
    changed(agent);
    const proposed = proposedOf(agent, person, outcome);
    return {
      erased: outcome.type === 'done' ? await withCertificate(agent, outcome.result, pseudonym) : null,
      proposed,
    };
  }),
  /** The certificate once more; who asks for it knows the pseudonym. */
  certificate: managing.input(subject).query(({ ctx: { agent }, input }) => {
    const erasure = agent.rights.find(input.pseudonym);
    if (erasure === null)
      throw new AppError('NOT_FOUND', `No subject "${input.pseudonym}" was erased here.`, {
        action: 'Check the pseudonym: it must be written as it was.',
      });
    return withCertificate(agent, erasure, input.pseudonym);
  }),
  /** Whether crops stay when no consent holds any more, as the person chose. */
  keepImages: managing
    .input(subject.extend({ keep: z.boolean() }))
    .mutation(async ({ ctx: { agent, actor }, input }) => {
      const known = agent.store.subjects.byPseudonym(input.pseudonym);
      if (known === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${input.pseudonym}".`);
      keepCrops(agent.store, known, input.keep, actor);
      await agent.rights.look();
      changed(agent);
      return { kept: input.keep };
    }),
  /** What was erased here, by keyed hash, for restoring an older backup. */
  erasures: managing.query(({ ctx }) => erasureList(ctx.agent.store)),
  /** What waits to be deleted. */
  retention: viewing.query(({ ctx }) => retentionState(ctx.agent)),
  /** Somebody has looked: the date and time of this computer are right. What is due by them is deleted. */
  clockIsRight: administering.mutation(async ({ ctx: { agent, actor } }) => {
    agent.rights.clock.confirm(actor);
    await agent.rights.look();
    agent.siteDecided();
    changed(agent);
    agent.emit({ type: 'changed', what: 'status' });
    return retentionState(agent);
  }),
});
