/** The coordinator's side of a federation: registry of sites, invitations, and one run at a time. */
import { randomUUID } from 'node:crypto';
import {
  type RunConfig,
  type RunSettings,
  runSettingsSchema,
  startFromText,
  startStateOf,
} from '../config/run-config.ts';
import { type SitePolicy, sitePolicySchema } from '../config/site-policy.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type Catalogue, createCatalogue, defaultBaseId } from '../models/catalogue.ts';
import { refusalsOf } from '../policy/check-policy.ts';
import { type AskedBy, type Contract, contractHash, contractOf } from '../policy/contract.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { pick } from '../shared/pick.ts';
import { plural } from '../shared/text.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RunRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { type PlannedRound, planRun, type RunTotals } from '../strategy/plan.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import type { AggregateRound } from '../strategy/strategy.ts';
import { encodeGlobalState, fileValueCount, globalForm } from '../strategy/wire/wire.ts';
import type { ManifestBody, WithdrawnBody } from '../transport/messages.ts';
import { dismissalOf } from './admission.ts';
import { configOf, pauseUnloadable, reading } from './readable-run.ts';
import { createRunControls } from './run-controls.ts';
import { createRunEngine, type RunEngine, type RunMessage, type RunPorts } from './run-engine.ts';
import { isOver } from './run-events.ts';
import { completeRunConfig } from './run-settings.ts';
import {
  type CoordinatorOverview,
  describeRun,
  type RunDetail,
  type RunSummary,
  type SiteRow,
  summarise,
  withdrawalOf,
} from './run-view.ts';
import type { SiteConcerns } from './standing.ts';
import { type ModelVersion, startStateFrom, versionsBeforeWithdrawal } from './start-state.ts';
import { recordWithdrawal, withdrawalMarks } from './withdrawals.ts';

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
  /** What is wrong with where a site stands; nothing when absent. */
  concernsOf?: ((siteId: string) => SiteConcerns) | undefined;
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
    'sitesChanged' | 'dismissed' | 'connected' | 'stateDamaged' | 'bytesServed' | 'bytesReceived'
  > {
  /** @returns whether nothing is to be said of it again: it is in the store, or there is nothing to store for good */
  received(siteId: string, message: RunMessage): Promise<boolean>;
  /** Whether a site may fetch this blob now; null while the run in progress is not loaded. */
  offers(sha256: string): boolean | null;
  /** Somebody withdrew whose images an update of this site was made of; runs that are over included. */
  withdrawn(siteId: string, body: WithdrawnBody): Promise<void>;
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
  /** @param from the version of an earlier run that it begins with; a fresh adapter when absent */
  startRun(settings: RunSettings, from?: ModelVersion, actor?: string): Promise<RunSummary>;
  /**
   * Starts a run with the settings of one that is marked, from the newest version before anybody of its contributions had
   * withdrawn; a fresh adapter when there is none. The marked run ends if it is in progress.
   * @throws AppError NOT_FOUND | CONFIG_INVALID when the run is not marked
   */
  restartBeforeWithdrawal(runId: string, actor?: string): Promise<RunSummary>;
  /** @throws AppError NOT_FOUND when it is not in progress */
  stopRun(runId: string, actor?: string): Promise<RunSummary>;
  /** Nothing happens in the run until somebody resumes it. @throws AppError NOT_FOUND when it is not in progress */
  pauseRun(runId: string, actor?: string): Promise<RunSummary>;
  /**
   * Goes on with a run that is paused, for whatever reason, or failed.
   * @throws AppError NOT_FOUND (files of it are gone) | RUN_CONFLICT (nothing to resume, or another run was started since) |
   * RUN_UNREADABLE | MODEL_UNKNOWN
   */
  resumeRun(runId: string, actor?: string): Promise<RunSummary>;
  runDetail(runId: string): Promise<RunDetail>;
  /** Reads the run in progress; call it before anybody is listened to. Nothing happens in the run yet. */
  load(): Promise<void>;
  /** Goes on with the run that was in progress when the process ended. */
  resume(): Promise<void>;
  close(): Promise<void>;
}

export function createCoordinator(options: CoordinatorOptions): CoordinatorNode {
  const { store, blobs, ports, logger, catalogue = createCatalogue() } = options;
  /** Of the run in progress or the newest one, once it goes on. Before that nothing of the run is taken. */
  let engine: RunEngine | null = null;
  /** The same from `load` on: what may be fetched, and what the manifest says. */
  let loaded: RunEngine | null = null;

  const enrolled = () => store.sites.list().filter((site) => site.revokedAt === null);

  function siteRows(): SiteRow[] {
    const online = new Set(ports.onlineSites());
    return store.sites.list().map((site) => ({
      ...pick(site, 'id', 'name', 'joinedAt', 'lastSeenAt'),
      online: online.has(site.id),
      revoked: site.revokedAt !== null,
      dismissal: dismissalOf(site, store.now()),
      ...(options.concernsOf?.(site.id) ?? { concerns: [], clock: null }),
    }));
  }

  /** The base model that a run began with, even when another was imported under its id since. */
  async function loadBaseOf(run: Pick<RunRecord, 'id' | 'config'>): Promise<BaseModel> {
    const { baseId, baseSha256 } = configOf(run);
    return catalogue.load(await catalogue.resolve(baseId, baseSha256));
  }

  /** Null when its base model was removed, or it cannot be read: everything else can still be shown. */
  async function detailIfPossible(runId: string): Promise<RunDetail | null> {
    try {
      return await detail(runId);
    } catch (error) {
      const { code } = toAppError(error);
      if (code === 'MODEL_UNKNOWN' || code === 'RUN_UNREADABLE') return null;
      throw error;
    }
  }

  async function openEngine(runId: string): Promise<RunEngine> {
    const base = await loadBaseOf(store.runs.get(runId)!);
    return reading(() =>
      createRunEngine({
        runId,
        store,
        blobs,
        base,
        ports,
        logger,
        onChange: () => options.onChange('run'),
        ...pick(options, 'askedBy', 'offlineGraceMs', 'products', 'noise'),
      }),
    );
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
    const plan = getStrategy(config.strategy).configureTrain(config, 0);
    const context = { config, plan, base };
    const start = startStateOf(config);
    using _held = blobs.hold();
    const fresh = start === null ? createRunState(config, base) : null;
    const sha256 = fresh === null ? start!.sha256 : await blobs.put(encodeGlobalState(fresh, context));
    const parameters =
      fresh === null
        ? (store.adapters.get(sha256)?.parameters ?? 0)
        : fileValueCount(fresh, globalForm(context));
    const id = randomUUID();
    store.transaction(() => {
      // Asked again: another start may have come between.
      if (store.runs.current() !== null) throw new AppError('RUN_CONFLICT', 'Another run is in progress.');
      store.runs.insert({ id, config });
      const { rank } = plan;
      const sizeBytes = blobs.sizeBytes(sha256);
      store.adapters.insert({ sha256, runId: id, round: -1, kind: 'global', rank, parameters, sizeBytes });
      store.audit.append({
        actor,
        action: 'run-started',
        details: {
          ...{ runId: id, strategy: config.strategy, rounds: config.rounds, state: sha256 },
          ...(start === null ? {} : { fromRun: start.runId, fromRound: start.round }),
          contract: contractHash(contract),
        },
      });
    });
    return id;
  }

  /** The settings of a run as somebody could have chosen them. */
  function settingsOf(config: RunConfig): RunSettings {
    const { baseSha256: _identity, baseOrigin: _origin, startFrom: _start, ...settings } = config;
    return runSettingsSchema.parse(settings);
  }

  interface Prepared {
    contract: Contract;
    base: BaseModel;
  }

  /** Everything that can be said of a run before it begins. @throws AppError when it could not begin */
  async function prepareRun(settings: RunSettings, from?: ModelVersion): Promise<Prepared> {
    if (enrolled().length === 0)
      throw new AppError('QUORUM_NOT_REACHED', 'No site has joined yet.', {
        action: 'Invite at least one site first.',
      });
    const base = await catalogue.load(settings.baseId ?? defaultBaseId);
    const names = enrolled().map((site) => site.name);
    // A classifier that has been trained before has its start.
    const headStart = from === undefined ? {} : ({ headStart: 'random' } as const);
    const complete = completeRunConfig({ ...settings, ...headStart }, base, names.length, names);
    const start = from === undefined ? null : await startStateFrom({ store, blobs }, from, complete, base);
    const config = start === null ? complete : { ...complete, startFrom: startFromText(start) };
    const contract = contractOf(config, base, options.askedBy);
    refuseHopeless(config, answersOf(contract));
    return { contract, base };
  }

  async function beginRun({ contract, base }: Prepared, actor: string): Promise<RunSummary> {
    const id = await recordStart(contract, base, actor);
    await engine?.suspend();
    loaded = await openEngine(id);
    engine = loaded;
    await engine.resume();
    return summariseRun(id);
  }

  function refuseWhileAnotherRuns(runId: string | null): void {
    const current = store.runs.current();
    if (current !== null && current.id !== runId)
      throw new AppError('RUN_CONFLICT', 'Another run is in progress.');
  }

  async function startRun(settings: RunSettings, from?: ModelVersion, actor = self): Promise<RunSummary> {
    refuseWhileAnotherRuns(null);
    return beginRun(await prepareRun(settings, from), actor);
  }

  const controls = createRunControls({
    store,
    blobs,
    engineOf: (runId) => (isCurrent(runId) ? engine : null),
    async load(runId) {
      const opened = await openEngine(runId);
      await engine?.suspend();
      loaded = opened;
      engine = opened;
      await opened.resume();
      return opened;
    },
    onChange: () => options.onChange('run'),
  });

  async function stopRun(runId: string, actor = self): Promise<RunSummary> {
    await controls.stop(runId, actor);
    return summariseRun(runId);
  }

  async function restartBeforeWithdrawal(runId: string, actor = self): Promise<RunSummary> {
    const versions = versionsBeforeWithdrawal(store, runId);
    if (!withdrawalMarks(store).has(runId))
      throw new AppError('CONFIG_INVALID', 'No contribution to this run was withdrawn.', {
        action: 'Start a new run instead.',
      });
    refuseWhileAnotherRuns(runId);
    const marked = store.runs.get(runId)!;
    const config = configOf(marked);
    const base = await loadBaseOf(marked);
    const settings = settingsOf({ ...config, baseId: base.id });
    const prepared = await prepareRun(settings, await firstUsable(versions, config, base));
    // What runs goes on until it is known that the new run can begin.
    if (store.runs.current()?.id === runId) await stopRun(runId, actor);
    return beginRun(prepared, actor);
  }

  /** The newest that a run with these settings can begin with; undefined when only a fresh adapter is left. */
  async function firstUsable(
    versions: readonly ModelVersion[],
    config: RunConfig,
    base: BaseModel,
  ): Promise<ModelVersion | undefined> {
    for (const version of versions) {
      try {
        await startStateFrom({ store, blobs }, version, config, base);
        return version;
      } catch (thrown) {
        const { code } = toAppError(thrown);
        if (code !== 'CONFIG_INVALID' && code !== 'NOT_FOUND') throw thrown;
      }
    }
    return undefined;
  }

  const summariseRun = (runId: string) => summarise(store.runs.get(runId)!, withdrawalOf(store, runId));

  async function detail(runId: string): Promise<RunDetail> {
    const run = store.runs.get(runId);
    if (run === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
    const base = await loadBaseOf(run);
    return reading(() => describeRun(store, run, base));
  }

  /** Only the run in progress takes messages; those of an earlier run are answered by its own record. */
  const isCurrent = (runId: string) => engine !== null && engine.runId === runId;

  /** @returns as `received` of the inbox, about a run that takes no messages now */
  async function answerByRecord(siteId: string, { type, body }: RunMessage): Promise<boolean> {
    const run = store.runs.get(body.runId);
    if (run !== null && !isOver(run)) return false;
    // An update is announced until its run is known to be over: no fault, where this side has lost its records.
    if (run === null && type !== 'announce')
      ports.fault(siteId, 'message', 'about a run that does not exist');
    if (type !== 'announce') return true;
    const receipt = { runId: body.runId, round: body.round, updateSha256: body.update.sha256 };
    const row = store.roundSites.get(body.runId, body.round, siteId);
    // The answer of then was lost: what counted is never said not to have counted.
    if (row?.status === 'received' && row.updateSha256 === body.update.sha256) {
      await ports.sendReceipt(siteId, { ...receipt, accepted: true });
      return true;
    }
    const reason = run === null ? 'This coordinator knows no such run.' : 'This run has ended.';
    const kind = run === null ? 'later' : 'final';
    await ports.sendReceipt(siteId, { ...receipt, accepted: false, reason, kind });
    return run !== null;
  }

  async function load(): Promise<void> {
    const current = store.runs.current();
    const newest = current ?? store.runs.list()[0];
    if (newest === undefined) return;
    try {
      loaded = await openEngine(newest.id);
    } catch (thrown) {
      logger.error({ error: thrown, runId: newest.id }, 'a run cannot be loaded');
      if (current !== null) pauseUnloadable(store, current.id, thrown);
    }
  }

  const inbox: CoordinatorInbox = {
    async received(siteId, message) {
      const { type, body } = message;
      if (type === 'declined')
        logger.warn({ siteId, runId: body.runId, round: body.round }, 'a site declined a round');
      return isCurrent(body.runId) ? engine!.received(siteId, message) : answerByRecord(siteId, message);
    },
    async withdrawn(siteId, body) {
      if (store.runs.get(body.runId) === null)
        return ports.fault(siteId, 'message', 'about a run that does not exist');
      if (!recordWithdrawal(store, siteId, body)) return;
      logger.info({ siteId, ...body }, 'a contribution of a site was withdrawn');
      options.onChange('run');
    },
    sitesChanged() {
      options.onChange('sites');
      engine?.sitesChanged();
    },
    dismissed: (siteId) => engine?.dismissed(siteId),
    connected: () => engine?.connected(),
    stateDamaged: (sha256) => engine?.stateDamaged(sha256),
    bytesServed: (sha256, bytes) => loaded?.bytesServed(sha256, bytes),
    bytesReceived: (bytes) => loaded?.bytesReceived(bytes),
    offers: (sha256) => loaded?.offers(sha256) ?? (store.runs.current() === null ? false : null),
    manifest: () => loaded?.manifest() ?? null,
  };

  return {
    inbox,
    async overview() {
      const runs = store.runs.list();
      const newest = runs[0];
      const marks = withdrawalMarks(store);
      return {
        federation: options.federation,
        brokerAddress: options.brokerAddress,
        sites: siteRows(),
        invitations: store.invitations
          .list()
          .map((row) => pick(row, 'id', 'siteName', 'createdAt', 'expiresAt', 'usedAt')),
        runs: runs.map((run) => summarise(run, withdrawalOf(store, run.id, marks))),
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
    startRun,
    restartBeforeWithdrawal,
    stopRun,
    async pauseRun(runId, actor = self) {
      await controls.pause(runId, actor);
      return summariseRun(runId);
    },
    async resumeRun(runId, actor = self) {
      await controls.resume(runId, actor);
      return summariseRun(runId);
    },
    runDetail: detail,
    load,
    async resume() {
      if (loaded === null) await load();
      engine = loaded;
      await engine?.resume();
    },
    async close() {
      await engine?.suspend();
    },
  };
}
