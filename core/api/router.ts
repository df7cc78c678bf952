/** The one API of the agent: screens, command line and tests all use it. Documented in docs/api.md. */
import { z } from 'zod';
import { runSettingsSchema } from '../config/run-config.ts';
import { sitePolicySchema } from '../config/site-policy.ts';
import type { CoordinatorNode } from '../coordinator/coordinator.ts';
import { exportOptionsSchema } from '../models/adapter-files.ts';
import { isOpen } from '../people/person.ts';
import { limitsSchema } from '../policy/standing-approval.ts';
import { AppError } from '../shared/errors.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { decline, endStanding } from '../site/decide.ts';
import type { SiteNode } from '../site/site.ts';
import { listAdapters } from './adapters-view.ts';
import { cardOf, measuringLeaks } from './approval-card.ts';
import { backupsRouter } from './backups-router.ts';
import { consentFilesRouter } from './consent-files-router.ts';
import { consentRouter } from './consent-router.ts';
import type { AgentContext } from './context.ts';
import type { AgentEvent, AuditPage } from './contract.ts';
import { evidenceRouter } from './evidence-router.ts';
import { imagesRouter } from './images-router.ts';
import { importProcedures } from './import-router.ts';
import { modelsRouter } from './models-router.ts';
import { peopleRouter } from './people-router.ts';
import { sitePolicyView } from './policy-view.ts';
import { rightsRouter } from './rights-router.ts';
import { listSetAside, listSubjects, siteOverview, siteRequests } from './site-view.ts';
import { subjectsRouter } from './subjects-router.ts';
import { administering, approving, managing, pausing, type RequestContext, router, viewing } from './trpc.ts';
import { approveByPeople, proposedOf, setPolicyByPeople } from './two-people.ts';

const name = z.string().trim().min(1).max(80);
const contract = z.object({ contractSha256: sha256Schema });
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
async function* eventsOf(
  { agent, caller }: Pick<RequestContext, 'agent' | 'caller'>,
  signal: AbortSignal | undefined,
): AsyncGenerator<AgentEvent> {
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
      // The stream outlives the question whether this person may listen.
      if (!isOpen(agent.people.whoIs(caller))) return;
      if (next !== undefined) yield next;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    remove();
    signal?.removeEventListener('abort', onAbort);
  }
}

const setupRouter = router({
  coordinator: administering
    .input(
      z.object({
        federation: name,
        port: z.number().int().min(0).max(65535).optional(),
        hosts: z.array(z.string().min(1).max(253)).max(20).optional(),
      }),
    )
    .mutation(async ({ ctx, input }) => {
      await ctx.agent.becomeCoordinator(input, ctx.actor);
      return ctx.agent.status();
    }),
  join: administering
    .input(z.object({ invitation: z.string().min(1).max(10_000), name: name.optional() }))
    .mutation(async ({ ctx, input }) => {
      await ctx.agent.joinAsSite(input, ctx.actor);
      return ctx.agent.status();
    }),
  demo: administering.mutation(async ({ ctx }) => {
    await ctx.agent.startDemo();
    return ctx.agent.status();
  }),
});

const siteRouter = router({
  overview: viewing.query(({ ctx }) => siteOverview(ctx.agent)),
  subjects: viewing
    .input(z.object({ search: z.string().max(200).optional() }).optional())
    .query(({ ctx, input }) => listSubjects(ctx.agent.store, input?.search ?? '')),
  setAside: viewing.query(({ ctx }) => listSetAside(ctx.agent.store)),
  ...importProcedures,
  /** The request that waits for a person, and what was decided before. */
  requests: viewing.query(({ ctx }) => siteRequests(ctx.agent)),
  /** The letter of a run that has asked, whatever was decided about it. */
  card: viewing.input(contract).query(({ ctx: { agent }, input }) =>
    cardOf(
      {
        ...{ ...agent, site: site(agent), federation: agent.status().federation ?? '' },
        measureLeak: measuringLeaks(agent),
      },
      input.contractSha256,
    ),
  ),
  approve: approving
    .input(contract.extend({ limits: limitsSchema.optional() }))
    .mutation(async ({ ctx: { agent, person }, input }) => {
      const outcome = await approveByPeople(agent, person, input);
      return { ...(await decided(agent)), proposed: proposedOf(agent, person, outcome) };
    }),
  decline: approving
    .input(contract.extend({ reason: z.string().trim().min(1).max(400) }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      decline({ ...agent, actor }, input.contractSha256, input.reason);
      return decided(agent);
    }),
  /** Takes an approval within limits back. */
  endApproval: approving
    .input(z.object({ decision: z.int().positive() }))
    .mutation(({ ctx: { agent, actor }, input }) => {
      endStanding({ ...agent, actor }, input.decision);
      return decided(agent);
    }),
  policy: viewing.query(({ ctx }) => sitePolicyView(ctx.agent.store)),
  setPolicy: approving
    .input(z.object({ policy: sitePolicySchema }))
    .mutation(async ({ ctx: { agent, person }, input }) => {
      const outcome = await setPolicyByPeople(agent, person, input.policy);
      agent.siteDecided();
      return { ...sitePolicyView(agent.store), proposed: proposedOf(agent, person, outcome) };
    }),
  /** Somebody has compared the consents after the data went back to an earlier state: the site takes part again. */
  confirmRestore: approving.mutation(async ({ ctx: { agent, actor } }) => {
    const confirmed = agent.confirmRestore(actor);
    return { ...(await siteOverview(agent)), confirmed };
  }),
  pause: pausing.mutation(({ ctx }) => {
    site(ctx.agent).pause();
    return siteOverview(ctx.agent);
  }),
  resume: pausing.mutation(({ ctx }) => {
    site(ctx.agent).resume();
    return siteOverview(ctx.agent);
  }),
});

const coordinatorRouter = router({
  overview: viewing.query(({ ctx }) => coordinator(ctx.agent).overview()),
  invite: administering
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
    .mutation(({ ctx, input }) =>
      coordinator(ctx.agent).invite(input.siteName, input.validHours ?? 72, ctx.actor),
    ),
  revoke: administering
    .input(z.object({ siteId: z.string().min(1) }))
    .mutation(({ ctx, input }) => coordinator(ctx.agent).revoke(input.siteId, ctx.actor)),
  plan: viewing
    .input(runSettingsSchema.extend({ sites: z.number().int().min(1).max(10_000).optional() }))
    .query(({ ctx, input: { sites, ...settings } }) => coordinator(ctx.agent).plan(settings, sites)),
  startRun: approving
    .input(runSettingsSchema.extend({ from: modelVersion.optional() }))
    .mutation(({ ctx, input: { from, ...settings } }) =>
      coordinator(ctx.agent).startRun(settings, from, ctx.actor),
    ),
  /** Begins a marked run again from before the withdrawal. */
  restartRun: approving
    .input(run)
    .mutation(({ ctx, input }) => coordinator(ctx.agent).restartBeforeWithdrawal(input.runId, ctx.actor)),
  stopRun: approving
    .input(run)
    .mutation(({ ctx, input }) => coordinator(ctx.agent).stopRun(input.runId, ctx.actor)),
  pauseRun: approving
    .input(run)
    .mutation(({ ctx, input }) => coordinator(ctx.agent).pauseRun(input.runId, ctx.actor)),
  /** Also of a run that failed. */
  resumeRun: approving
    .input(run)
    .mutation(({ ctx, input }) => coordinator(ctx.agent).resumeRun(input.runId, ctx.actor)),
  run: viewing.input(run).query(({ ctx, input }) => coordinator(ctx.agent).runDetail(input.runId)),
});

export const appRouter = router({
  status: viewing.query(({ ctx }) => ctx.agent.status()),
  events: viewing.subscription(({ ctx, signal }) => eventsOf(ctx, signal)),
  devices: viewing.query(({ ctx }) => ctx.agent.devices()),
  setup: setupRouter,
  site: siteRouter,
  subjects: subjectsRouter,
  consent: consentRouter,
  rights: rightsRouter,
  images: imagesRouter,
  coordinator: coordinatorRouter,
  people: peopleRouter,
  consentFiles: consentFilesRouter,
  /** Installed base models, the default first. */
  baseModels: viewing.query(({ ctx }) => ctx.agent.catalogue.list()),
  models: modelsRouter,
  adapters: viewing.query(({ ctx }) => listAdapters(ctx.agent.store)),
  exportAdapter: managing
    .input(
      exportOptionsSchema.extend({
        sha256: sha256Schema,
        ...run.partial().shape,
        folder: z.string().min(1),
      }),
    )
    .mutation(({ ctx, input: { sha256, folder, ...options } }) =>
      ctx.agent.exportAdapter(sha256, folder, options, ctx.actor),
    ),
  evidence: evidenceRouter,
  backups: backupsRouter,
  audit: viewing
    .input(z.object({ beforeSeq: z.number().int().positive().optional() }).optional())
    .query(({ ctx: { agent }, input }): AuditPage => {
      const { rows: _number, ...verification } = agent.store.audit.verify();
      return { ...verification, rows: agent.store.audit.page({ beforeSeq: input?.beforeSeq }) };
    }),
});

export type AppRouter = typeof appRouter;
