/** Base models: what is here, and importing another one. */
import { z } from 'zod';
import { modelIdSchema } from '../models/installed-models.ts';
import { importOptionsSchema } from '../models/model-formats.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { installing, router, viewing } from './trpc.ts';

/** A file or folder on the machine of the agent, and what a person says about it. */
const chosen = z.strictObject({
  path: z.string().trim().min(1).max(4096),
  options: importOptionsSchema.default({}),
});

export const modelsRouter = router({
  list: viewing.query(({ ctx }) => ctx.agent.models.view()),
  /** Writes nothing. A mutation, since reading a file that a person names is no question that repeats itself. */
  inspect: installing
    .input(chosen)
    .mutation(({ ctx, input, signal }) => ctx.agent.models.inspect(input.path, input.options, signal)),
  /** Answers when the model stands in the list. */
  import: installing
    .input(chosen)
    .mutation(({ ctx: { agent, actor }, input }) => agent.models.import(input.path, input.options, actor)),
  /** Nothing of it is left. */
  cancel: installing.mutation(({ ctx }) => ({ cancelled: ctx.agent.models.cancel() })),
  remove: installing
    .input(z.strictObject({ id: modelIdSchema, sha256: sha256Schema.nullable() }))
    .mutation(async ({ ctx: { agent, actor }, input }) => {
      await agent.models.remove(input, actor);
      return agent.models.view();
    }),
});
