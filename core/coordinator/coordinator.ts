/** The coordinator's side of a federation: registry of sites, invitations, and one run at a time. */
import { randomUUID } from 'node:crypto';
import { type RunConfig, type RunSettings, runConfigSchema } from '../config/run-config.ts';
import { type SitePolicy, sitePolicySchema } from '../config/site-policy.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type Catalogue, createCatalogue, defaultBaseId } from '../models/catalogue.ts';
import { refusalsOf } from '../policy/check-policy.ts';
import { type AskedBy, type Contract, contractHash, contractOf } from '../policy/contract.ts';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { pick } from '../shared/pick.ts';
import { plural } from '../shared/text.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Store } from '../store/store.ts';
import { type PlannedRound, planRun, type RunTotals } from '../strategy/plan.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import type { AggregateRound } from '../strategy/strategy.ts';
import { encodeGlobalState, fileValueCount, globalForm } from '../strategy/wire/wire.ts';
import type { ManifestBody } from '../transport/messages.ts';
import { dismissalOf } from './admission.ts';
import { createRunEngine, type RunEngine, type RunMessage, type RunPorts } from './run-engine.ts';
import { completeRunConfig } from './run-settings.ts';
import {
  type CoordinatorOverview,
  describeRun,
  type RunDetail,
  type RunSummary,
  type SiteRow,
  summarise,
} from './run-view.ts';

export interface Invitation {
  /** The text that the site pastes; holds a one-time secret, so it is shown once and never stored or logged. */
  invitation: string;
  expiresAt: string;
}

export interface CoordinatorOptions {
  /** Its name for people. */
  federation: string;
  /** As the sites know who asks. */
  askedBy: AskedBy;
  brokerAddress: string;
  store: Store;
  blobs: BlobStore;
  logger: Logger;
  /** The base models that this installation holds; only the built-in ones when absent. */
  catalogue?: Catalogue;
  ports: RunPorts;
  /** Makes an invitation and records it. */
  createInvitation(siteName: string, validHours: number): Promise<Invitation>;
  /** Cuts the connection of a site whose certificate was revoked. */
  disconnect(siteId: string): void;
  onChange: (what: 'run' | 'sites') => void;
  offlineGraceMs?: number;
  /** See `RunEngineOptions`. */
  noise?: AggregateRound['noise'];
  products: AggregateRound['products'];
}

/** What the connection calls; see `RunEngine` and connection.ts. */
export interface CoordinatorInbox
  extends Pick<
    RunEngine,
    'sitesChanged' | 'dismissed' | 'connected' | 'bytesServed' | 'bytesReceived' | 'offers'
  > {
  received(siteId: string, message: RunMessage): Promise<void>;
  /** What the retained manifest should say now; null before the first run. */
  manifest(): ManifestBody | null;
}

/** What a site's policy says to a plan. */
export interface SiteAnswer {
  siteId: string;
  siteName: string;
  /** Null until the site has published one. */
  policy: SitePolicy | null;
  /** Why the site would refuse; empty when its policy allows the plan, or is not known. */
  refusals: string[];
}

export interface RunPlan {
  plan: PlannedRound[];
  totals: RunTotals;
  /** Sites that a round needs. */
  quorum: number;
  sites: SiteAnswer[];
}

/** @throws AppError POLICY_REFUSED when so many sites would refuse that no round could open */
function refuseHopeless({ quorum }: RunConfig, answers: readonly SiteAnswer[]): void {
  const refusing = answers.filter(({ refusals }) => refusals.length > 0);
  const willing = answers.length - refusing.length;
  if (willing >= quorum || refusing.length === 0) return;
  const [first] = refusing;
  throw new AppError(
    'POLICY_REFUSED',
    `The policies of ${plural(refusing.length, 'site')} refuse this run, and its quorum is ${quorum}. ${first!.siteName}: ${first!.refusals[0]!}`,
    { action: 'Change this setting, or ask the sites; the planning screen shows what each of them says.' },
  );
}

/** Who acts when nobody in particular does. */
const self = 'coordinator';

export interface CoordinatorNode {
  readonly inbox: CoordinatorInbox;
  overview(): Promise<CoordinatorOverview>;
  /** @param actor here and below: who asks for it, as the audit trail names them; `coordinator` when absent */
  invite(siteName: string, validHours: number, actor?: string): Promise<Invitation>;
  revoke(siteId: string, actor?: string): SiteRow[];
  plan(settings: RunSettings, sites?: number): Promise<RunPlan>;
  startRun(settings: RunSettings, actor?: string): Promise<RunSummary>;
  stopRun(runId: string, actor?: string): Promise<RunSummary>;
  runDetail(runId: string): Promise<RunDetail>;
  /** Goes on with the run that was in progress when the process ended. */
  resume(): Promise<void>;
  close(): Promise<void>;
}

export function createCoordinator(options: CoordinatorOptions): CoordinatorNode {
  const { store, blobs, ports, logger, catalogue = createCatalogue() } = options;
  let engine: RunEngine | null = null;
  /** Until the run in progress is loaded nothing can be said about it: what comes meanwhile waits. */
  const loading = store.runs.current() === null ? null : Promise.withResolvers<void>();

  const enrolled = () => store.sites.list().filter((site) => site.revokedAt === null);

  function siteRows(): SiteRow[] {
    const online = new Set(ports.onlineSites());
    return store.sites.list().map((site) => ({
      ...pick(site, 'id', 'name', 'joinedAt', 'lastSeenAt'),
      online: online.has(site.id),
      revoked: site.revokedAt !== null,
      dismissal: dismissalOf(site, store.now()),
    }));
  }

  /** The base model that a run began with, even when another was imported under its id since. */
  async function loadBaseOf(runConfig: unknown): Promise<BaseModel> {
    const { baseId, baseSha256 } = runConfigSchema.parse(runConfig);
    return catalogue.load(await catalogue.resolve(baseId, baseSha256));
  }

  /** Null when its base model was removed: everything else can still be shown. */
  async function detailIfPossible(runId: string): Promise<RunDetail | null> {
    try {
      return await detail(runId);
    } catch (error) {
      if (error instanceof AppError && error.code === 'MODEL_UNKNOWN') return null;
      throw error;
    }
  }

  async function openEngine(runId: string): Promise<RunEngine> {
    const base = await loadBaseOf(store.runs.get(runId)!.config);
    return createRunEngine({
      runId,
      store,
      blobs,
      base,
      ports,
      logger,
      onChange: () => options.onChange('run'),
      ...pick(options, 'askedBy', 'offlineGraceMs', 'products', 'noise'),
    });
  }

  /** What each site's policy says to a plan, as far as a policy alone can tell. */
  function answersOf(contract: Contract): SiteAnswer[] {
    return enrolled().map(({ id, name, policy }) => {
      const known = sitePolicySchema.safeParse(policy).data ?? null;
      const refusals = known === null ? [] : refusalsOf(contract, known, null);
      return {
        siteId: id,
        siteName: name,
        policy: known,
        refusals: refusals.map(({ sentence }) => sentence),
      };
    });
  }

  /** The run and the state that it starts from. @returns its id */
  async function recordStart(contract: Contract, base: BaseModel, actor: string): Promise<string> {
    const config = contract.settings;
    const state = createRunState(config, base);
    const plan = getStrategy(config.strategy).configureTrain(config, 0);
    const context = { config, plan, base };
    using _held = blobs.hold();
    const sha256 = await blobs.put(encodeGlobalState(state, context));
    const id = randomUUID();
    store.transaction(() => {
      // Asked again: another start may have come between.
      if (store.runs.current() !== null) throw new AppError('RUN_CONFLICT', 'Another run is in progress.');
      store.runs.insert({ id, config });
      store.adapters.insert({
        sha256,
        runId: id,
        round: -1,
        kind: 'global',
        rank: plan.rank,
        parameters: fileValueCount(state, globalForm(context)),
        sizeBytes: blobs.sizeBytes(sha256),
      });
      store.audit.append({
        actor,
        action: 'run-started',
        details: {
          ...{ runId: id, strategy: config.strategy, rounds: config.rounds, state: sha256 },
          contract: contractHash(contract),
        },
      });
    });
    return id;
  }

  async function detail(runId: string): Promise<RunDetail> {
    const run = store.runs.get(runId);
    if (run === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
    return describeRun(store, run, await loadBaseOf(run.config));
  }

  /** Only the run in progress takes messages; those of an earlier run are answered by its own record. */
  const isCurrent = (runId: string) => engine !== null && engine.runId === runId;

  const inbox: CoordinatorInbox = {
    async received(siteId, message) {
      await loading?.promise;
      const { type, body } = message;
      if (type === 'declined')
        logger.warn({ siteId, runId: body.runId, round: body.round }, 'a site declined a round');
      if (isCurrent(body.runId)) return engine!.received(siteId, message);
      if (store.runs.get(body.runId) === null)
        ports.fault(siteId, 'message', 'about a run that does not exist');
      if (type !== 'announce') return;
      const receipt = { runId: body.runId, round: body.round, updateSha256: body.update.sha256 };
      await ports.sendReceipt(siteId, { ...receipt, accepted: false, reason: 'This run has ended.' });
    },
    sitesChanged() {
      options.onChange('sites');
      engine?.sitesChanged();
    },
    dismissed: (siteId) => engine?.dismissed(siteId),
    connected: () => engine?.connected(),
    bytesServed: (sha256, bytes) => engine?.bytesServed(sha256, bytes),
    bytesReceived: (bytes) => engine?.bytesReceived(bytes),
    offers: (sha256) => engine?.offers(sha256) ?? false,
    manifest: () => engine?.manifest() ?? null,
  };

  return {
    inbox,
    async overview() {
      const runs = store.runs.list();
      const newest = runs[0];
      return {
        federation: options.federation,
        brokerAddress: options.brokerAddress,
        sites: siteRows(),
        invitations: store.invitations
          .list()
          .map((row) => pick(row, 'id', 'siteName', 'createdAt', 'expiresAt', 'usedAt')),
        runs: runs.map(summarise),
        current: newest === undefined ? null : await detailIfPossible(newest.id),
      };
    },
    async invite(siteName, validHours, actor = self) {
      const invitation = await options.createInvitation(siteName, validHours);
      store.audit.append({
        actor,
        action: 'site-invited',
        details: { siteName, expiresAt: invitation.expiresAt },
      });
      options.onChange('sites');
      return invitation;
    },
    revoke(siteId, actor = self) {
      if (!store.sites.revoke(siteId))
        throw new AppError('NOT_FOUND', 'This site is unknown or has already been removed.');
      store.audit.append({ actor, action: 'site-revoked', details: { siteId } });
      options.disconnect(siteId);
      inbox.sitesChanged();
      return siteRows();
    },
    async plan(settings, sites) {
      const base = await catalogue.load(settings.baseId ?? defaultBaseId);
      const count = sites ?? Math.max(1, enrolled().length);
      const config = completeRunConfig(
        { ...settings, classes: settings.classes ?? ['one', 'two'] },
        base,
        count,
      );
      const planned = planRun(config, base, count);
      return {
        ...planned,
        quorum: config.quorum,
        sites: answersOf(contractOf(config, base, options.askedBy)),
      };
    },
    async startRun(settings, actor = self) {
      if (store.runs.current() !== null) throw new AppError('RUN_CONFLICT', 'Another run is in progress.');
      if (enrolled().length === 0)
        throw new AppError('QUORUM_NOT_REACHED', 'No site has joined yet.', {
          action: 'Invite at least one site first.',
        });
      const base = await catalogue.load(settings.baseId ?? defaultBaseId);
      const names = enrolled().map((site) => site.name);
      const config = completeRunConfig(settings, base, names.length, names);
      const contract = contractOf(config, base, options.askedBy);
      refuseHopeless(config, answersOf(contract));
      const id = await recordStart(contract, base, actor);
      await engine?.suspend();
      engine = await openEngine(id);
      await engine.resume();
      return summarise(store.runs.get(id)!);
    },
    async stopRun(runId, actor = self) {
      if (!isCurrent(runId)) throw new AppError('NOT_FOUND', 'This run is not in progress.');
      store.audit.append({ actor, action: 'run-stop-asked', details: { runId } });
      await engine!.stop();
      return summarise(store.runs.get(runId)!);
    },
    runDetail: detail,
    async resume() {
      try {
        const newest = store.runs.current() ?? store.runs.list()[0];
        if (newest === undefined || newest === null) return;
        engine = await openEngine(newest.id);
        await engine.resume();
      } finally {
        loading?.resolve();
      }
    },
    async close() {
      await engine?.suspend();
    },
  };
}
