/**
 * The embedded broker: aedes over TLS, for a coordinator without a broker of its own. A client is who its
 * certificate says, and hears and says only what `topics.ts` allows it. Without a certificate it may enrol
 * and nothing else.
 */
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { Aedes, type Client } from 'aedes';
import { AppError, toAppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { type BrokerLimits, createBrokerPolicy, defaultBrokerLimits } from './broker-policy.ts';
import { createFrameGuard } from './frame-guard.ts';

export interface BrokerOptions {
  federation: string;
  /** 0: any free one. */
  port: number;
  /** Address to listen on, for instance 127.0.0.1 or 0.0.0.0. */
  host: string;
  /** PEM. `cert` may hold the chain; the authority is added, so that invited sites can find it. */
  tls: { ca: string; cert: string; key: string };
  /** Whether a site with this certificate may connect: it is enrolled, not revoked, and the serial is its newest. */
  mayConnect(site: { siteId: string; certificateSerial: string }): boolean;
  limits?: Partial<BrokerLimits>;
  logger?: Logger;
}

export interface Broker {
  readonly port: number;
  /** Client ids of who is connected: `coordinator`, sites, `enrol-…`. */
  readonly connected: readonly string[];
  /** Breaks the connection of a site, for instance because it was revoked. */
  disconnect(siteId: string): void;
  close(): Promise<void>;
}

/** A client that has not said CONNECT by then is gone. */
const connectTimeoutMs = 10_000;

/** @throws AppError PORT_IN_USE */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const logger = options.logger ?? silentLogger;
  const limits = { ...defaultBrokerLimits, ...options.limits };
  const policy = createBrokerPolicy({ ...options, limits, logger });
  const aedes = await Aedes.createBroker({
    // aedes stops delivering to everybody when this many messages are outstanding, so one frozen subscriber
    // must never fill it; the policy disconnects such a one long before.
    concurrency: 5_000,
    drainTimeout: 30_000,
    connectTimeout: connectTimeoutMs,
    heartbeatInterval: 60_000,
    maxTopicLevels: 12,
    ...policy.handlers,
  });
  aedes.on('clientError', (client: Client, error: Error) => {
    logger.info({ client: client.id, reason: error.message }, 'a client was disconnected');
  });
  aedes.on('connectionError', (_client: Client, error: Error) => {
    logger.info({ reason: error.message }, 'a connection was refused');
  });

  const sockets = new Set<TLSSocket>();
  const server = createServer(
    {
      ca: options.tls.ca,
      cert: `${options.tls.cert.trim()}\n${options.tls.ca.trim()}\n`,
      key: options.tls.key,
      requestCert: true,
      // Whoever has no certificate may enrol; whoever has a wrong one is refused by the policy.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      handshakeTimeout: connectTimeoutMs,
    },
    (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      const guard = createFrameGuard(socket, {
        firstPacketBytes: 16 * 1024,
        packetBytes: limits.packetBytes,
      });
      if (!policy.admit(guard, socket)) guard.destroy();
      else aedes.handle(guard);
    },
  );
  server.maxConnections = limits.connections;
  server.on('tlsClientError', (error) => logger.info({ reason: error.message }, 'a TLS handshake failed'));

  try {
    await listen(server, options.port, options.host);
  } catch (error) {
    await new Promise<void>((resolve) => aedes.close(resolve));
    throw error;
  }
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.port;

  return {
    port,
    get connected() {
      return policy.connected();
    },
    disconnect: (siteId) => policy.disconnect(siteId),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => aedes.close(resolve));
      await closed;
    },
  };
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === 'EACCES' || code === 'EADDRNOTAVAIL') {
      throw new AppError('PORT_IN_USE', `The broker cannot listen on port ${port} of ${host}.`, {
        action: 'Choose another address or a port above 1023 with --port.',
        cause: error,
      });
    }
    throw toAppError(error);
  }
}
