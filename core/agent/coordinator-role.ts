/** Puts a coordinator together: authority, broker, enrolment desk, connection, state machine. */
import { isWelcome } from '../coordinator/admission.ts';
import { connectCoordinator } from '../coordinator/connection.ts';
import { type CoordinatorNode, createCoordinator } from '../coordinator/coordinator.ts';
import { restoredConcern } from '../coordinator/standing.ts';
import { createAuthority } from '../enrolment/authority.ts';
import { startEnrolmentDesk } from '../enrolment/desk.ts';
import { loadOrCreateSigner } from '../enrolment/key-files.ts';
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { DataFolder } from '../store/data-folder.ts';
import type { Store } from '../store/store.ts';
import { startBroker } from '../transport/broker.ts';
import { connectMqtt } from '../transport/mqtt-link.ts';
import { coordinatorId } from '../transport/topics.ts';
import { createRegistry, issueInvitation } from './enrolment-registry.ts';
import type { EventHub } from './event-hub.ts';
import { type CoordinatorIdentity, writeIdentity } from './identity.ts';
import { version } from './version.ts';

export interface CoordinatorRole {
  readonly node: CoordinatorNode;
  readonly brokerAddress: string;
  readonly isOnline: boolean;
  /** What is wrong with where this coordinator stands. */
  readonly concerns: ErrorReport[];
  close(): Promise<void>;
}

export interface RoleOptions<Identity> {
  identity: Identity;
  data: DataFolder;
  store: Store;
  logger: Logger;
  events: EventHub;
  catalogue: Catalogue;
}

const loopbackNames = new Set(['127.0.0.1', 'localhost', '::1']);

/** Only a federation of this machine alone stays on loopback; sites elsewhere must reach the broker. */
function listenAddress(hosts: readonly string[]): string {
  return hosts.every((host) => loopbackNames.has(host)) ? '127.0.0.1' : '0.0.0.0';
}

/** @throws AppError PORT_IN_USE | DATA_FOLDER_UNUSABLE */
export async function startCoordinatorRole(
  options: RoleOptions<CoordinatorIdentity> & { products: MatrixProducts },
): Promise<CoordinatorRole> {
  const { identity, data, store, logger, events, catalogue, products } = options;
  const { federation, federationName, hosts } = identity;
  const authority = await createAuthority(data.keysDir, federation);
  const signer = await loadOrCreateSigner(data.keysDir, coordinatorId);
  const server = await authority.issueServer(hosts);
  const closers: (() => Promise<void> | void)[] = [];
  const closeAll = async () => {
    for (const close of closers) await close();
  };
  try {
    const broker = await startBroker({
      federation,
      port: identity.port,
      host: listenAddress(hosts),
      tls: { ca: authority.certificate, cert: server.certificate, key: server.key },
      mayConnect({ siteId, certificateSerial }) {
        const site = store.sites.get(siteId);
        return isWelcome(site, store.now()) && site.certificateSerial === certificateSerial;
      },
      logger,
    });
    closers.unshift(() => broker.close());
    // A port chosen by the system is kept, so that the sites find the broker again after a restart.
    if (identity.port !== broker.port) writeIdentity(store, { ...identity, port: broker.port });

    const own = await authority.issueCoordinator();
    const link = await connectMqtt({
      url: `mqtts://127.0.0.1:${broker.port}`,
      clientId: coordinatorId,
      tls: { ca: authority.certificate, cert: own.certificate, key: own.key },
      waitForFirstConnection: 15_000,
      logger,
    });
    closers.unshift(() => link.close());
    const connection = connectCoordinator({
      link,
      federation,
      coordinatorName: federationName,
      version,
      signer,
      store,
      blobs: data.blobs,
      logger,
      onProgress: (siteId, progress) => events.emit({ type: 'progress', siteId, ...progress }),
      disconnect: (siteId) => broker.disconnect(siteId),
      onStanding() {
        events.emit({ type: 'changed', what: 'sites' });
        events.emit({ type: 'changed', what: 'status' });
      },
    });
    const brokerUrl = `mqtts://${hosts[0]}:${broker.port}`;
    const terms = {
      federation,
      coordinatorName: federationName,
      brokerUrl,
      caFingerprint: authority.fingerprint,
      coordinatorPublicKey: signer.publicKey,
    };
    const node = createCoordinator({
      federation: federationName,
      askedBy: { federation, coordinatorKey: signer.publicKey },
      brokerAddress: brokerUrl,
      store,
      blobs: data.blobs,
      logger,
      catalogue,
      ports: connection.ports,
      concernsOf: connection.standing.concernsOf,
      products,
      createInvitation: async (siteName, validHours) => issueInvitation(store, terms, siteName, validHours),
      disconnect: (siteId) => broker.disconnect(siteId),
      onChange: (what) => events.emit({ type: 'changed', what }),
    });
    const desk = await startEnrolmentDesk({
      link,
      federation,
      coordinatorName: federationName,
      authority,
      signer,
      registry: createRegistry(store),
      logger,
      onEnrolled: () => node.inbox.sitesChanged(),
    });
    closers.unshift(() => desk.close());
    closers.unshift(() => connection.close());
    closers.unshift(() => node.close());
    // Nobody is listened to before the run in progress can answer.
    await node.load();
    await connection.open(node.inbox);
    await node.resume();
    return {
      node,
      brokerAddress: brokerUrl,
      get isOnline() {
        return link.online;
      },
      get concerns() {
        const clock = connection.standing.ownClock();
        const restored = restoredConcern(store);
        return [restored, clock].flatMap((error) => error?.toReport() ?? []);
      },
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}
