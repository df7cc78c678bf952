/** Evidence for auditors: what an installation can show for what it did. */
import { z } from 'zod';
import { managing, router, viewing } from './trpc.ts';

export const evidenceRouter = router({
  /** Writes a bundle on the machine of the agent: a new file, or into a folder that is there. */
  export: managing
    .input(z.strictObject({ target: z.string().min(1).max(4096) }))
    .mutation(({ ctx: { agent, actor }, input }) => agent.exportEvidence(input.target, actor)),
  /** Recomputes the audit trail of this data folder and holds the consents against it. */
  verify: viewing.query(({ ctx }) => ctx.agent.store.audit.verify()),
});
