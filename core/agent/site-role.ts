/** Puts a site together: connection, trainer process, state machine. */
import { join } from 'node:path';
import { hardlyCompresses } from '../config/leak-report.ts';
import { computeSettings, type DeviceChoice, readDeviceChoice } from '../engine/devices/device-choice.ts';
import { startTrainer } from '../engine/trainer.ts';
import { loadCredentials } from '../enrolment/credentials.ts';
import type { BaseFacts } from '../policy/check-policy.ts';
import type { LeakTests } from '../policy/leak-test-service.ts';
import { formatMinute } from '../shared/clock-words.ts';
import { AppError, type ErrorReport } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { connectSite, ownPositionOf } from '../site/connection.ts';
import { publishedPolicy } from '../site/policy.ts';
import { createSite, type SiteNode } from '../site/site.ts';
import type { DataFolder } from '../store/data-folder.ts';
import type { ClockDifference, DismissedBody } from '../transport/messages.ts';
import { connectMqtt } from '../transport/mqtt-link.ts';
import { createPresence } from '../transport/presence.ts';
import { coordinatorId } from '../transport/topics.ts';
import type { RoleOptions } from './coordinator-role.ts';
import type { SiteIdentity } from './identity.ts';
import { version } from './version.ts';

export interface SiteRole {
  readonly node: SiteNode;
  readonly isOnline: boolean;
  /** Why the broker cannot be reached, or what stopped the last round. */
  readonly problem: ErrorReport | null;
  /** What is wrong with where this site and its coordinator stand, the most pressing first. */
  readonly concerns: ErrorReport[];
  /** This site's clock beside the coordinator's; null until it was measured. */
  readonly clock: ClockDifference | null;
  /** Call after a decision or another policy is in the store. */
  decided(): void;
  /** Call after a person has confirmed that the store went back in time. */
  standingChanged(): void;
  close(): Promise<void>;
}

export interface SiteRoleOptions extends RoleOptions<SiteIdentity> {
  /** Processor threads for training, when a person asked for a number. */
  threads?: number | undefined;
  autoApprove: boolean;
  leakOf: LeakTests['leakOf'];
}

/** So long the second of two computers with the same keys leaves the first one in peace. */
const twinWaitsMs = 5 * 60_000;

/** Of the round in progress. */
export const workFolderOf = ({ trainingDir }: Pick<DataFolder, 'trainingDir'>): string =>
  join(trainingDir, 'work');

/** Starts even when the broker is away; it keeps trying. @throws AppError DATA_FOLDER_UNUSABLE */
export async function startSiteRole(options: SiteRoleOptions): Promise<SiteRole> {
  const { data, store, logger, events, catalogue } = options;
  const credentials = await loadCredentials(data.keysDir);
  if (credentials === null)
    throw new AppError('NOT_JOINED', 'The keys of this site are missing from the data folder.');
  const { federation, siteId, signer } = credentials;
  const own = ownPositionOf(store, federation, signer);
  // A coordinator of version 0.1 knows of no places.
  const place = () => (store.peers.current(coordinatorId) === null ? undefined : own.hint());
  const presence = createPresence(federation, signer, logger, place);
  const link = await connectMqtt({
    url: credentials.brokerUrl,
    clientId: siteId,
    tls: credentials.tls,
    will: presence.will,
    logger,
  });
  presence.attach(link);
  link.onStatus(() => events.emit({ type: 'changed', what: 'status' }));
  const choice = await readChoice(data.dir, logger);
  const trainer = startTrainer({ logger, modelsFolder: data.modelsDir });
  let node: SiteNode | null = null;
  let dismissal: DismissedBody | null = null;
  const connection = connectSite({
    link,
    federation,
    signer,
    coordinatorPublicKey: credentials.coordinatorPublicKey,
    name: credentials.siteName,
    version,
    baseIds: async () => (await catalogue.list()).map((entry) => entry.id),
    policy: () => publishedPolicy(store),
    store,
    blobs: data.blobs,
    logger,
    onManifest: (manifest) => node?.receiveManifest(manifest),
    onUnreadable: (error) => node?.refuseUnreadable(error),
    onReceipt: (receipt) => node?.receiveReceipt(receipt) ?? false,
    onUpdateDamaged: (sha256) => node?.updateDamaged(sha256),
    own,
    onRestored() {
      presence.again();
      node?.standingChanged();
    },
    onCoordinatorReturned: (manifest) => node?.coordinatorReturned(manifest),
    onTwin(twin) {
      if (twin === 'wait') link.standBack(twinWaitsMs);
    },
    onStanding: () => events.emit({ type: 'changed', what: 'status' }),
    onDismissed(received) {
      dismissal = received;
      events.emit({ type: 'changed', what: 'status' });
    },
  });
  const created = createSite({
    siteId,
    siteName: credentials.siteName,
    store,
    blobs: data.blobs,
    trainer,
    ports: connection.ports,
    logger,
    catalogue,
    workFolder: workFolderOf(data),
    compute: (baseId) => computeSettings(choice, baseId, options.threads),
    askedBy: { federation, coordinatorKey: credentials.coordinatorPublicKey },
    baseFacts: (baseId) => baseFactsOf(baseId, options),
    autoApprove: options.autoApprove,
    onChange: () => {
      events.emit({ type: 'changed', what: 'run' });
      events.emit({ type: 'changed', what: 'status' });
    },
    onProgress: ({ runId, round, step, steps, loss }) =>
      events.emit({ type: 'progress', runId, round, siteId, step, steps, loss }),
  });
  node = created;
  await connection.open();
  return {
    node: created,
    get isOnline() {
      return link.online;
    },
    get problem() {
      // Says more than the broker, which only refuses the connection.
      if (dismissal !== null && Date.parse(dismissal.until) > Date.now())
        return dismissedProblem(dismissal).toReport();
      return link.problem?.toReport() ?? created.problem;
    },
    get concerns() {
      return connection.standing.concerns();
    },
    get clock() {
      return connection.standing.clock;
    },
    standingChanged() {
      created.standingChanged();
      connection.greet();
    },
    decided() {
      created.decided();
      connection.greet();
    },
    async close() {
      await created.close();
      await presence.leave();
      // The link before what is built on it: a broker that hangs is then not asked to end each subscription.
      await link.close();
      await connection.close();
      await trainer.close();
    },
  };
}

function dismissedProblem({ reason, until }: DismissedBody): AppError {
  return new AppError('SITE_DISMISSED', `${reason} It listens again at ${formatMinute(until)}.`);
}

/** A network that is built in was measured by those who built it in (docs/models.md); any other was at its import, or is now. */
async function baseFactsOf(
  baseId: string,
  { catalogue, leakOf }: Pick<SiteRoleOptions, 'catalogue' | 'leakOf'>,
): Promise<BaseFacts> {
  const isBuiltIn = (await catalogue.list()).some(
    ({ id, importedAt }) => id === baseId && importedAt === null,
  );
  return { hardlyCompresses: !isBuiltIn && hardlyCompresses(await leakOf(baseId)) };
}

/** A choice that cannot be read must not keep a site from its rounds: it trains on the processor then. */
async function readChoice(dataFolder: string, logger: Logger): Promise<DeviceChoice | null> {
  try {
    return await readDeviceChoice(dataFolder);
  } catch (error) {
    logger.warn({ error }, 'the chosen device cannot be read; training on the processor');
    return null;
  }
}
