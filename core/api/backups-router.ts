/** Backups of the data folder that this agent serves. */
import { z } from 'zod';
import { typedPassword } from '../people/password-rules.ts';
import { administering, router, viewing } from './trpc.ts';

export const backupsRouter = router({
  /** What is known of backups, and how far the one is that is being made. */
  state: viewing.query(({ ctx }) => ctx.agent.backups.state()),
  /** Writes a new file on the machine of the agent; answers when it was read back. */
  make: administering
    .input(
      z.strictObject({
        file: z.string().min(1).max(4096),
        passphrase: typedPassword,
        withModels: z.boolean(),
      }),
    )
    .mutation(({ ctx: { agent, actor }, input }) => agent.backups.make(input, actor)),
  /** Nothing of it is left. */
  cancel: administering.mutation(({ ctx }) => ({ cancelled: ctx.agent.backups.cancel() })),
});
