/** Who may connect to the embedded broker and what each may say and hear: the hooks that aedes calls. */
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { AedesOptions, AuthenticateError, Client } from 'aedes';
import type { Logger } from '../shared/logger.ts';
import { createEnrollingSlots, type EnrollingLimits } from './enrolling-slots.ts';
import {
  coordinatorId,
  createTopics,
  enrolmentClientPrefix,
  type Identity,
  isTopicName,
  mayPublish,
  maySubscribe,
} from './topics.ts';

export interface BrokerLimits extends EnrollingLimits {
  /** Largest MQTT packet. Default 1 MiB. */
  packetBytes: number;
  connections: number;
  /** Requests that a connection without a certificate may send. */
  enrollingMessages: number;
  /** What may wait for a site that reads too slowly before it is disconnected. Default 16 MiB. */
  bufferedBytesPerSite: number;
  /** The same for the coordinator. Default 256 MiB. */
  bufferedBytesCoordinator: number;
}

export const defaultBrokerLimits: BrokerLimits = {
  packetBytes: 1024 * 1024,
  connections: 2_000,
  enrolling: 32,
  enrollingPerAddress: 8,
  enrollingMs: 120_000,
  enrollingMessages: 60,
  bufferedBytesPerSite: 16 * 1024 * 1024,
  bufferedBytesCoordinator: 256 * 1024 * 1024,
};

export interface PolicyOptions {
  federation: string;
  limits: BrokerLimits;
  mayConnect(site: { siteId: string; certificateSerial: string }): boolean;
  logger: Logger;
}

export interface BrokerPolicy {
  readonly handlers: AedesOptions;
  /** Remembers whose stream it is. False when the connection may not even say CONNECT. */
  admit(stream: Duplex, socket: TLSSocket): boolean;
  disconnect(siteId: string): void;
  connected(): string[];
}

/** A connection before CONNECT: the certificate's common name and serial, or null without a certificate. */
type Visitor = { commonName: string; serial: string } | null;

/** CONNACK return codes, MQTT 3.1.1 section 3.2.2.3. */
const identifierRejected = 2;
const notAuthorised = 5;

export function createBrokerPolicy(options: PolicyOptions): BrokerPolicy {
  const { limits, logger } = options;
  const topics = createTopics(options.federation);
  const visitors = new WeakMap<object, Visitor>();
  // A last will is judged after its connection is gone, so identities outlive connections.
  const identities = new WeakMap<Client, Identity>();
  const clients = new Set<Client>();
  const enrolling = createEnrollingSlots(limits);
  const asked = new WeakMap<Client, number>();

  /** A site asks once every few seconds; who asks faster than it could be answered is gone. */
  function asksTooOften(client: Client): boolean {
    const count = (asked.get(client) ?? 0) + 1;
    asked.set(client, count);
    return count > limits.enrollingMessages;
  }

  function identify(client: Client): Identity | 'mismatch' | 'unknown' {
    const visitor = visitors.get(client.conn);
    if (visitor === undefined) return 'unknown';
    if (visitor === null) {
      const isEnrolment = client.id.startsWith(enrolmentClientPrefix) && isTopicName(client.id);
      return isEnrolment ? { kind: 'enrolling', id: client.id } : 'unknown';
    }
    if (visitor.commonName !== client.id) return 'mismatch';
    if (visitor.commonName === coordinatorId) return { kind: 'coordinator' };
    const siteId = visitor.commonName;
    if (!isTopicName(siteId) || !options.mayConnect({ siteId, certificateSerial: visitor.serial })) {
      return 'unknown';
    }
    return { kind: 'site', siteId };
  }

  const handlers: AedesOptions = {
    preConnect(client, packet, done) {
      // Sessions that outlive a connection would queue without bound in this process.
      if (!packet.clean) done(new Error('only clean sessions'), false);
      else done(null, client.conn !== undefined);
    },
    authenticate(client, _username, _password, done) {
      const identity = identify(client);
      if (typeof identity === 'string') {
        logger.info({ client: client.id, identity }, 'a client may not connect');
        done(refusal(identity === 'mismatch' ? identifierRejected : notAuthorised), false);
        return;
      }
      identities.set(client, identity);
      clients.add(client);
      client.conn.once('close', () => clients.delete(client));
      done(null, true);
    },
    authorizePublish(client, packet, done) {
      const identity = client === null ? undefined : identities.get(client);
      if (client !== null && identity === undefined) {
        done(new Error('nobody'));
      } else if (
        identity !== undefined &&
        (packet.qos === 2 || !mayPublish(topics, identity, packet.topic, packet.retain))
      ) {
        logger.warn({ client: client?.id }, 'a client published where it may not');
        done(new Error('publish not allowed'));
      } else if (identity?.kind === 'enrolling' && asksTooOften(client!)) {
        done(new Error('too many requests to join'));
      } else {
        done(null);
      }
    },
    authorizeSubscribe(client, subscription, done) {
      const identity = identities.get(client);
      if (identity !== undefined && maySubscribe(topics, identity, subscription.topic)) {
        done(null, subscription);
        return;
      }
      logger.warn({ client: client.id }, 'a client subscribed where it may not');
      // Null is answered with 0x80; an error would break the connection.
      done(null, null);
    },
    authorizeForward(client, packet) {
      const limit =
        client.id === coordinatorId ? limits.bufferedBytesCoordinator : limits.bufferedBytesPerSite;
      const stream = client.conn;
      if (stream.writableLength <= limit) return packet;
      logger.warn({ client: client.id }, 'a client reads too slowly and was disconnected');
      stream.destroy();
      return null;
    },
  };

  return {
    handlers,
    admit(stream, socket) {
      const certificate = socket.getPeerCertificate();
      const none = Object.keys(certificate ?? {}).length === 0;
      if (!none && !socket.authorized) {
        logger.info({ reason: String(socket.authorizationError) }, 'a certificate was refused');
        return false;
      }
      if (!none) {
        const { CN: commonName } = certificate.subject;
        if (typeof commonName !== 'string') return false;
        visitors.set(stream, { commonName, serial: certificate.serialNumber.toLowerCase() });
        return true;
      }
      enrolling.take(stream, socket.remoteAddress ?? '');
      visitors.set(stream, null);
      return true;
    },
    disconnect(siteId) {
      for (const client of clients) {
        const identity = identities.get(client);
        if (identity?.kind === 'site' && identity.siteId === siteId) client.conn.destroy();
      }
    },
    connected: () => [...clients].filter((client) => client.connected).map((client) => client.id),
  };
}

function refusal(returnCode: number): AuthenticateError {
  return Object.assign(new Error('refused'), { returnCode }) as AuthenticateError;
}
