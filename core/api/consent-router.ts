/** Consents of subjects: recorded and withdrawn. */
import { z } from 'zod';
import { recordConsent, withdrawConsent } from '../consent/consent.ts';
import { consentGiverSchema } from '../store/records.ts';
import type { AgentContext } from './context.ts';
import { subjectDetail } from './subject-view.ts';
import { managing, router } from './trpc.ts';

const word = z.string().trim().min(1).max(200);
const day = z.iso.date();
const moment = z.iso.datetime({ offset: true }).or(day);
const pseudonym = z.strictObject({ pseudonym: z.string().min(1).max(200) });

function changed(agent: AgentContext, subject: string) {
  agent.emit({ type: 'changed', what: 'dataset' });
  agent.emit({ type: 'changed', what: 'audit' });
  return subjectDetail(agent.store, subject);
}

export const consentRouter = router({
  /** A grant: the first one, a longer or shorter term, or a new consent after a withdrawal, which then says so. */
  record: managing
    .input(
      pseudonym.extend({
        purpose: word,
        documentVersion: word,
        validFrom: moment,
        expiresAt: moment.optional(),
        givenBy: consentGiverSchema.optional(),
        verifiedOn: day.optional(),
        reference: word.optional(),
        /** Id of the withdrawal that the person was shown, or `true`. */
        afterWithdrawal: z.union([z.boolean(), z.int().positive()]).optional(),
      }),
    )
    .mutation(({ ctx: { agent, actor }, input }) => {
      recordConsent(agent.store, { ...input, recordedBy: actor });
      return changed(agent, input.pseudonym);
    }),
  /** From one purpose, or from all. */
  withdraw: managing
    .input(
      pseudonym.extend({
        purpose: word.optional(),
        date: moment.optional(),
        documentVersion: word.optional(),
        reference: word.optional(),
      }),
    )
    .mutation(({ ctx: { agent, actor }, input }) => {
      withdrawConsent(agent.store, { ...input, recordedBy: actor });
      return changed(agent, input.pseudonym);
    }),
});
