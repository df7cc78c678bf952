/** The one API of the agent: screens, command line and tests all use it. Documented in docs/api.md. */
import { z } from 'zod';
import { runSettingsSchema } from '../config/run-config.ts';
import { sitePolicySchema } from '../config/site-policy.ts';
import { traceSubject } from '../consent/trace.ts';
import type { CoordinatorNode } from '../coordinator/coordinator.ts';
import { exportOptionsSchema } from '../models/adapter-files.ts';
import { limitsSchema } from '../policy/standing-approval.ts';
import { AppError } from '../shared/errors.ts';
import { approve, decline, endStanding } from '../site/decide.ts';
import { setPolicy } from '../site/policy.ts';
import type { SiteNode } from '../site/site.ts';
import { listAdapters } from './adapters-view.ts';
import { cardOf, measuringLeaks } from './approval-card.ts';
import { consentRouter } from './consent-router.ts';
import type { AgentContext } from './context.ts';
import type { AgentEvent } from './contract.ts';
import { sitePolicyView } from './policy-view.ts';
import { rightsRouter } from './rights-router.ts';
import { listSetAside, listSubjects, siteOverview, siteRequests } from './site-view.ts';
import { subjectsRouter } from './subjects-router.ts';
import { approving, procedure, router, viewing } from './trpc.ts';

const name = z.string().trim().min(1).max(80);
const pseudonym = z.object({ pseudonym: z.string().min(1).max(200) });
const contract = z.object({ contractSha256: z.string().regex(/^[0-9a-f]{64}$/) });
const run = z.object({ runId: z.string().min(1).max(100) });
/** The result of a round of a run. */
const modelVersion = z.strictObject({ ...run.shape, round: z.int().min(0).max(1000) });

function site(agent: AgentContext): SiteNode {
  if (agent.site === null) throw new AppError('NOT_JOINED', 'This site has not joined a federation yet.');
  return agent.site;
}

/** After a decision is in the store. */
function decided(agent: AgentContext) {
  agent.siteDecided();
  return siteRequests(agent);
}

function coordinator(agent: AgentContext): CoordinatorNode {
  if (agent.coordinator !== null) return agent.coordinator;
  const { mode, problem } = agent.status();
  if (mode === 'coordinator' && problem !== null) throw AppError.fromReport(problem);
  throw new AppError('NOT_FOUND', 'This installation is not a coordinator.', {
    action:
      'Give the data folder of the coordinator with --data, or start one with "anneal coordinator start".',
  });
}

/** Turns the agent's listeners into an async iterable that ends with the request. */
async function* eventsOf(agent: AgentContext, signal: AbortSignal | undefined): AsyncGenerator<AgentEvent> {
  const queue: AgentEvent[] = [];
  let wake: () => void = () => {};
  const remove = agent.onEvent((event) => {
    // A reader that has fallen far behind loses progress hints, never memory of the agent.
    if (queue.length < 1000) queue.push(event);
    wake();
  });
  const onAbort = () => wake();
  signal?.addEventListener('abort', onAbort);
  try {
    while (signal?.aborted !== true) {
      const next = queue.shift();
      if (next !== undefined) yield next;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    remove();
    signal?.removeEventListener('abort', onAbort);
  }
}

const setupRouter = router({
  coordinator: procedure
    .input(
      z.object({
        federation: name,
        port: z.number().int().min(0).max(65535).optional(),
        hosts: z.array(z.string().min(1).max(253)).max(20).optional(),
      }),
    )
    .mutation(async ({ ctx, input }) => {
      await ctx.agent.becomeCoordinator(input);
      return ctx.agent.status();
    }),
  join: procedure
    .input(z.object({ invitation: z.string().min(1).max(10_000), name: name.optional() }))
    .mutation(async ({ ctx, input }) => {
      await ctx.agent.joinAsSite(input);
      return ctx.agent.status();
    }),
  demo: procedure.mutation(async ({ ctx }) => {
    await ctx.agent.startDemo();
    return ctx.agent.status();
  }),
});

const siteRouter = router({
  overview: procedure.query(({ ctx }) => siteOverview(ctx.agent)),
  subjects: procedure
    .input(z.object({ search: z.string().max(200).optional() }).optional())
    .query(({ ctx, input }) => listSubjects(ctx.agent.store, input?.search ?? '')),
  setAside: procedure.query(({ ctx }) => listSetAside(ctx.agent.store)),
  import: procedure
    .input(
      z.object({
        imagesFolder: z.string().min(1),
        labelsFile: z.string().min(1),
        alreadyCropped: z.boolean(),
      }),
    )
    .mutation(({ ctx, input }) => ctx.agent.importImages(input)),
  trace: procedure.input(pseudonym).query(({ ctx, input }) => traceSubject(ctx.agent.store, input.pseudonym)),
  /** The request that waits for a person, and what was decided before. */
  requests: procedure.query(({ ctx }) => siteRequests(ctx.agent)),
  /** The letter of a run that has asked, whatever was decided about it. */
  card: procedure.input(contract).query(({ ctx: { agent }, input }) =>
    cardOf(
      {
        ...{ ...agent, site: site(agent), federation: agent.status().federation ?? '' },
        measureLeak: measuringLeaks(agent),
      },
      input.contractSha256,
    ),
  ),
  approve: procedure
    .input(contract.extend({ limits: limitsSchema.optional() }))
    .mutation(async ({ ctx: { agent, actor }, input }) => {
      await approve({ ...agent, actor }, input.contractSha256, input.limits);
      return decided(agent);
    }),
  decline: procedure
    .input(contract.extend({ reason: z.string().trim().min(1).max(400) }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      decline({ ...agent, actor }, input.contractSha256, input.reason);
      return decided(agent);
    }),
  /** Takes an approval within limits back. */
  endApproval: procedure
    .input(z.object({ decision: z.int().positive() }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      endStanding({ ...agent, actor }, input.decision);
      return decided(agent);
    }),
  policy: procedure.query(({ ctx }) => sitePolicyView(ctx.agent.store)),
  setPolicy: procedure
    .input(z.object({ policy: sitePolicySchema }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      setPolicy(agent.store, input.policy, actor);
      agent.siteDecided();
      return sitePolicyView(agent.store);
    }),
  pause: procedure.mutation(({ ctx }) => {
    site(ctx.agent).pause();
    return siteOverview(ctx.agent);
  }),
  resume: procedure.mutation(({ ctx }) => {
    site(ctx.agent).resume();
    return siteOverview(ctx.agent);
  }),
});

const coordinatorRouter = router({
  overview: procedure.query(({ ctx }) => coordinator(ctx.agent).overview()),
  invite: procedure
    .input(
      z.object({
        siteName: name,
        validHours: z
          .number()
          .positive()
          .max(24 * 30)
          .optional(),
      }),
    )
    .mutation(({ ctx, input }) => coordinator(ctx.agent).invite(input.siteName, input.validHours ?? 72)),
  revoke: procedure
    .input(z.object({ siteId: z.string().min(1) }))
    .mutation(({ ctx, input }) => coordinator(ctx.agent).revoke(input.siteId)),
  plan: procedure
    .input(runSettingsSchema.extend({ sites: z.number().int().min(1).max(10_000).optional() }))
    .query(({ ctx, input: { sites, ...settings } }) => coordinator(ctx.agent).plan(settings, sites)),
  startRun: procedure
    .input(runSettingsSchema.extend({ from: modelVersion.optional() }))
    .mutation(({ ctx, input: { from, ...settings } }) => coordinator(ctx.agent).startRun(settings, from)),
  /** Begins a marked run again from before the withdrawal. */
  restartRun: approving
    .input(run)
    .mutation(({ ctx, input }) => coordinator(ctx.agent).restartBeforeWithdrawal(input.runId)),
  stopRun: procedure.input(run).mutation(({ ctx, input }) => coordinator(ctx.agent).stopRun(input.runId)),
  run: procedure.input(run).query(({ ctx, input }) => coordinator(ctx.agent).runDetail(input.runId)),
});

export const appRouter = router({
  status: procedure.query(({ ctx }) => ctx.agent.status()),
  events: procedure.subscription(({ ctx, signal }) => eventsOf(ctx.agent, signal)),
  devices: procedure.query(({ ctx }) => ctx.agent.devices()),
  setup: setupRouter,
  site: siteRouter,
  subjects: subjectsRouter,
  consent: consentRouter,
  rights: rightsRouter,
  coordinator: coordinatorRouter,
  /** Installed base models, the default first. */
  baseModels: procedure.query(({ ctx }) => ctx.agent.catalogue.list()),
  adapters: viewing.query(({ ctx }) => listAdapters(ctx.agent.store)),
  exportAdapter: procedure
    .input(
      exportOptionsSchema.extend({
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        ...run.partial().shape,
        folder: z.string().min(1),
      }),
    )
    .mutation(({ ctx, input: { sha256, folder, ...options } }) =>
      ctx.agent.exportAdapter(sha256, folder, options),
    ),
  audit: procedure
    .input(z.object({ beforeSeq: z.number().int().positive().optional() }).optional())
    .query(({ ctx, input }) => ({
      rows: ctx.agent.store.audit.page({ beforeSeq: input?.beforeSeq }),
      intact: ctx.agent.store.audit.verify().intact,
    })),
});

export type AppRouter = typeof appRouter;
