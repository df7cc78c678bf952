/** The composition root: one data folder, one store, and the role that this installation has. */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isWithdrawn } from '../api/adapters-view.ts';
import { consentsChanged } from '../api/consents-changed.ts';
import type { AdapterExport, AgentContext } from '../api/context.ts';
import type { AgentStatus, ImportReport } from '../api/contract.ts';
import { runConfigSchema } from '../config/run-config.ts';
import { imageLimitsOf } from '../config/site-policy.ts';
import { clockFault } from '../consent/site-clock.ts';
import { establishTimeZone } from '../consent/site-zone.ts';
import { importFolder } from '../data/import-folder.ts';
import { previewImport } from '../data/import-preview.ts';
import type { ImportRequest } from '../data/import-request.ts';
import { computeSettings, readDeviceChoice } from '../engine/devices/device-choice.ts';
import type { Device } from '../engine/engine.ts';
import { listAllDevices } from '../engine/engines.ts';
import { createFaceDetector } from '../engine/faces/detector.ts';
import { createOnnxRuntimeProducts } from '../engine/onnxruntime/matrix-products.ts';
import { loadCredentials } from '../enrolment/credentials.ts';
import { enrol } from '../enrolment/enrol.ts';
import { createCatalogue, defaultBaseId } from '../models/catalogue.ts';
import { createPeople } from '../people/people.ts';
import { createLeakTests } from '../policy/leak-test-service.ts';
import { createRights } from '../rights/rights.ts';
import { AppError, type ErrorReport, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { pick } from '../shared/pick.ts';
import { currentPolicy } from '../site/policy.ts';
import { anchorName } from '../store/anchor.ts';
import { type DataFolder, lockDataFolder, openDataFolder } from '../store/data-folder.ts';
import { confirmRestored } from '../store/restored.ts';
import { sweepBlobs } from '../store/retention.ts';
import { openStore, type Store } from '../store/store.ts';
import { createBackups } from './backups.ts';
import { type CoordinatorRole, startCoordinatorRole } from './coordinator-role.ts';
import { createDemoProcess } from './demo-process.ts';
import { createEventHub } from './event-hub.ts';
import { exportAdapterOf, writeWithdrawalNote } from './export-adapter.ts';
import { exportEvidenceOf } from './export-evidence.ts';
import { federationIdOf, type Identity, readIdentity, writeIdentity } from './identity.ts';
import { requireDatabase, requireKeys, requireOwnDatabase } from './installation.ts';
import { isPassing } from './last-resort.ts';
import { createFileLogger } from './log-file.ts';
import { createModels } from './models.ts';
import { bindKeys, requireOwnKeys } from './own-keys.ts';
import { type SiteRole, startSiteRole, workFolderOf } from './site-role.ts';
import { version } from './version.ts';

export interface AgentOptions {
  dataFolder: string;
  /** Training threads; what was measured and kept, else all cores, when absent. */
  threads?: number | undefined;
  /** Approve every run without a person. */
  autoApprove?: boolean | undefined;
}

export interface Agent {
  readonly context: AgentContext;
  readonly logger: Logger;
  close(): Promise<void>;
}

const defaultBrokerPort = 8883;
const importDataset = 'imported';

const reserveEveryMs = 30_000;
const startAgainMs = 5_000;
/** Nothing else is answered while a statement waits for another program's lock. */
const busyTimeoutMs = 250;

/** @throws AppError DATABASE_MISSING | DATABASE_BEHIND | KEYS_DIFFER, and what {@link openStore} throws */
function openOwnStore(data: DataFolder): Store {
  requireDatabase(data);
  const anchorFile = join(data.dir, anchorName);
  const open = () => openStore(data.dbFile, { anchorFile, reserve: data.reserve, busyTimeoutMs });
  let store: Store;
  try {
    store = open();
  } catch (thrown) {
    if (toAppError(thrown).code !== 'DISK_FULL' || !data.reserve.release()) throw thrown;
    store = open();
  }
  try {
    const identity = readIdentity(store);
    requireOwnDatabase(data, identity);
    requireOwnKeys(store, data.keysDir, identity);
    store.anchor();
    return store;
  } catch (thrown) {
    store.close();
    throw thrown;
  }
}

/**
 * @throws AppError DATA_FOLDER_IN_USE | DATA_FOLDER_UNUSABLE | DATABASE_NEWER | DATABASE_DAMAGED | DATABASE_MISSING |
 *   DATABASE_BEHIND | KEYS_DIFFER | PORT_IN_USE
 */
export async function createAgent(options: AgentOptions): Promise<Agent> {
  const data = openDataFolder(options.dataFolder);
  const lock = lockDataFolder(options.dataFolder);
  let store: Store;
  try {
    store = openOwnStore(data);
  } catch (error) {
    lock.release();
    throw error;
  }
  const logger = createFileLogger(data.logsDir, 'agent');
  // Room that was given away is taken back when there is some.
  const keepRoom = () => {
    data.reserve.ensure();
    store.lookForRoom();
  };
  keepRoom();
  const reserving = setInterval(keepRoom, reserveEveryMs).unref();
  try {
    const swept = await sweepBlobs(store, data.blobs);
    if (swept > 0) logger.info({ blobs: swept }, 'files that nothing refers to were deleted');
  } catch (error) {
    // Tried again at the next start.
    logger.warn({ error }, 'files that nothing refers to could not be deleted');
  }
  const events = createEventHub();
  const people = createPeople(store);
  const catalogue = createCatalogue(data.modelsDir);
  const leakTests = createLeakTests({ catalogue, modelsFolder: data.modelsDir, logger });
  const models = createModels({
    ...{ store, catalogue, logger, modelsFolder: data.modelsDir, emit: events.emit },
    manifest: () => site?.node.manifest ?? null,
  });
  const products = createOnnxRuntimeProducts();
  let site: SiteRole | null = null;
  let coordinator: CoordinatorRole | null = null;
  let startProblem: ErrorReport | null = null;
  let starting: Promise<void> | null = null;
  let startingAgain: NodeJS.Timeout | undefined;
  let importing = false;
  let settingUp = false;
  const rights = createRights({
    ...{ store, blobs: data.blobs, logger, logsFolder: data.logsDir, workFolder: workFolderOf(data) },
    site: () => site?.node ?? null,
    onChange: () => events.emit({ type: 'changed', what: 'dataset' }),
  });
  const backups = await createBackups({
    ...{ store, data, logger, emit: events.emit },
    origin() {
      const { mode, name, federation } = status();
      return { mode, name, federation, annealVersion: version };
    },
    afterwards: () => rights.look(),
  });
  const demo = createDemoProcess(data.dir, () => events.emit({ type: 'changed', what: 'status' }));

  async function startRole(identity: Identity): Promise<void> {
    // Once it has a role: a setup that was broken off goes on with the keys that it has made.
    if (readIdentity(store) !== null && !settingUp) requireKeys(data, identity);
    const shared = { data, store, logger, events, catalogue };
    if (identity.mode === 'coordinator') {
      coordinator = await startCoordinatorRole({ ...shared, identity, products });
    } else {
      site = await startSiteRole({
        ...shared,
        identity,
        threads: options.threads,
        autoApprove: options.autoApprove ?? false,
        leakOf: leakTests.leakOf,
      });
    }
    try {
      bindKeys(store, data.keysDir, identity);
    } catch (error) {
      // On a full disk: the next start does it.
      logger.warn({ error }, 'the keys of this installation are not written down yet');
    }
    events.emit({ type: 'changed', what: 'status' });
  }

  function requireUnset(): void {
    if (readIdentity(store) !== null)
      throw new AppError('ALREADY_JOINED', 'This installation already has a role.');
  }

  /** Two setups at once, for instance from two windows, would start two roles on one store. */
  async function alone(setUp: () => Promise<void>): Promise<void> {
    if (settingUp)
      throw new AppError('ALREADY_JOINED', 'This installation is already being set up.', {
        action: 'Wait until setup has finished.',
      });
    settingUp = true;
    try {
      await setUp();
    } finally {
      settingUp = false;
    }
  }

  async function createFederation(
    ...[input, actor]: Parameters<AgentContext['becomeCoordinator']>
  ): Promise<void> {
    requireUnset();
    const identity: Identity = {
      mode: 'coordinator',
      federation: federationIdOf(input.federation, randomBytes(4).toString('hex')),
      federationName: input.federation,
      hosts: input.hosts ?? [hostname()],
      port: input.port ?? defaultBrokerPort,
    };
    await startRole(identity);
    // Only now: a port in use leaves the installation as it was. The role has written the port that it got.
    if (readIdentity(store) === null) writeIdentity(store, identity);
    store.audit.append({
      actor,
      action: 'federation-created',
      details: { federation: identity.federation },
    });
    store.anchor();
  }

  async function join(...[input, actor]: Parameters<AgentContext['joinAsSite']>): Promise<void> {
    requireUnset();
    // Joined, but killed before it was written here: the keys folder knows, and joining goes on from there.
    const known = await loadCredentials(data.keysDir);
    const joined =
      known ??
      (await enrol({
        invitation: input.invitation,
        siteName: input.name ?? hostname(),
        keysDir: data.keysDir,
        logger,
      }));
    const identity = {
      mode: 'site' as const,
      ...pick(joined, 'federation', 'siteId', 'siteName', 'brokerUrl', 'joinedAt'),
      federationName: joined.coordinatorName,
    };
    writeIdentity(store, identity);
    store.audit.append({
      actor,
      action: 'federation-joined',
      details: { federation: identity.federation, siteId: identity.siteId },
    });
    store.anchor();
    await startRole(identity);
  }

  /** A label outside the classes of the run in progress is most likely mistyped; before any run is known, any will do. */
  function labelsOfRun(): readonly string[] | undefined {
    const run = store.runs.current();
    return run === null ? undefined : runConfigSchema.safeParse(run.config).data?.classes;
  }

  /** Where this installation trains, or on the processor. */
  async function startFaceDetector() {
    const choice = await readDeviceChoice(data.dir).catch(() => null);
    return createFaceDetector({ device: computeSettings(choice, defaultBaseId).device, logger });
  }

  async function importImages(request: ImportRequest, actor: string): Promise<ImportReport> {
    if (importing)
      throw new AppError('RUN_CONFLICT', 'Another import is in progress.', {
        action: 'Wait until it has finished.',
      });
    importing = true;
    try {
      const report = await importFolder({
        store,
        blobs: data.blobs,
        ...request,
        dataset: importDataset,
        startDetector: startFaceDetector,
        limits: imageLimitsOf(currentPolicy(store).policy),
        allowedLabels: labelsOfRun(),
        recordedBy: actor,
        onProgress: (progress) => events.emit({ type: 'import', progress }),
      });
      // A crop of somebody whose consent is over does not stay because it was imported again.
      await rights.look();
      return report;
    } finally {
      importing = false;
      // Also after an error: withdrawals of the table count all the same.
      consentsChanged(events);
    }
  }

  const previewTable: AgentContext['previewImport'] = ({ imagesFolder, labelsFile, table }) =>
    previewImport({
      ...{ store, imagesFolder, file: labelsFile, kind: 'images', request: table },
      allowedLabels: labelsOfRun(),
    });

  async function exportAdapter(
    sha256: string,
    folder: string,
    options: AdapterExport,
    actor: string,
  ): Promise<{ folder: string; withdrawn: boolean }> {
    await exportAdapterOf({ store, blobs: data.blobs, catalogue, products }, sha256, folder, options);
    const withdrawn = isWithdrawn(store, sha256, options.runId);
    if (withdrawn) await writeWithdrawalNote(folder, options.format);
    store.audit.append({
      actor,
      action: 'adapter-exported',
      details: { adapter: sha256, format: options.format ?? 'peft', ...(withdrawn && { withdrawn }) },
    });
    return { folder, withdrawn };
  }

  /** Also of a site that waits for a run: nobody should learn of it only then. */
  const clockProblem = (): ErrorReport | null => clockFault(store)?.toReport() ?? null;

  const diskProblem = (): ErrorReport | null => data.reserve.problem?.toReport() ?? null;

  function status(): AgentStatus {
    const identity = readIdentity(store);
    const shared = { version, dataFolder: data.dir, lastBackupAt: backups.newestAt, demo: demo.status };
    if (identity === null) {
      return {
        ...shared,
        mode: 'unset',
        name: null,
        federation: null,
        broker: { state: 'none', address: null },
        problem: startProblem ?? clockProblem() ?? diskProblem(),
        concerns: [],
        clock: null,
      };
    }
    const concerns = site?.concerns ?? coordinator?.concerns ?? [];
    const isOnline = identity.mode === 'site' ? site?.isOnline : coordinator?.isOnline;
    const address = identity.mode === 'site' ? identity.brokerUrl : (coordinator?.brokerAddress ?? null);
    return {
      ...shared,
      mode: identity.mode,
      name: identity.mode === 'site' ? identity.siteName : identity.federationName,
      federation: identity.federationName,
      broker: { state: isOnline === true ? 'online' : isOnline === false ? 'offline' : 'none', address },
      problem: startProblem ?? clockProblem() ?? diskProblem() ?? concerns[0] ?? site?.problem ?? null,
      concerns,
      clock: site?.clock ?? null,
    };
  }

  const context: AgentContext = {
    store,
    blobs: data.blobs,
    people,
    catalogue,
    rights,
    backups,
    models,
    leakOf: leakTests.leakOf,
    get joinedAt() {
      const identity = readIdentity(store);
      return identity?.mode === 'site' ? identity.joinedAt : null;
    },
    status,
    onEvent: events.listen,
    emit: events.emit,
    becomeCoordinator: (...given) => alone(() => createFederation(...given)),
    joinAsSite: (...given) => alone(() => join(...given)),
    startDemo: () => demo.start(),
    devices: (): Promise<Device[]> => listAllDevices(),
    importImages,
    previewImport: previewTable,
    exportAdapter,
    async exportEvidence(target, actor) {
      const written = await exportEvidenceOf({ store, data, identity: readIdentity(store) }, target, actor);
      events.emit({ type: 'changed', what: 'audit' });
      return written;
    },
    confirmRestore(actor) {
      const confirmed = confirmRestored(store, actor);
      if (confirmed === null) return null;
      site?.standingChanged();
      for (const what of ['status', 'run', 'audit'] as const) events.emit({ type: 'changed', what });
      return confirmed;
    },
    siteDecided() {
      site?.decided();
      events.emit({ type: 'changed', what: 'run' });
      events.emit({ type: 'changed', what: 'audit' });
    },
    get site() {
      return site?.node ?? null;
    },
    get coordinator() {
      return coordinator?.node ?? null;
    },
  };

  /** What has only to be waited for, such as a full disk or a port that another program still holds, is tried again. */
  async function startRoleOrSayWhy(): Promise<void> {
    try {
      await startRole(readIdentity(store)!);
      startProblem = null;
    } catch (thrown) {
      // The screens still open and say what is wrong; a coordinator without its broker is no reason to hide the data.
      startProblem = toAppError(thrown).toReport();
      logger.error({ error: thrown }, 'role not started');
      if (isPassing(thrown) || startProblem.code === 'PORT_IN_USE')
        startingAgain = setTimeout(() => {
          starting = startRoleOrSayWhy();
        }, startAgainMs);
    }
    events.emit({ type: 'changed', what: 'status' });
  }

  async function close(): Promise<void> {
    clearInterval(reserving);
    clearTimeout(startingAgain);
    await starting;
    clearTimeout(startingAgain);
    leakTests.close();
    await models.close();
    await backups.close();
    await rights.close();
    await demo.close();
    await site?.close();
    await coordinator?.close();
    store.anchor();
    store.close();
    lock.release();
  }

  const identity = readIdentity(store);
  // Once, at the first start: a later one may come from a shell with another time zone.
  if (identity?.mode !== 'coordinator') establishTimeZone(store);
  if (identity !== null) await startRoleOrSayWhy();
  rights.start();
  return { context, logger, close };
}
