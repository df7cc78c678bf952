/** A link over MQTT 3.1.1 and TLS: clean sessions, QoS 1, reconnects by itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { describeConnectionProblem } from './connection-problem.ts';
import type { Link, PublishOptions } from './link.ts';
import { openSession, type Session, type Will } from './mqtt-session.ts';
import { fetchPinnedAuthority } from './pinned-authority.ts';
import * as reconnection from './reconnection.ts';
import { createSendWindow } from './send-window.ts';
import { createSubscriptions } from './subscriptions.ts';

export type { Will } from './mqtt-session.ts';

export interface MqttLinkOptions {
  /** `mqtts://host:port`. Unencrypted MQTT is refused. */
  url: string;
  clientId: string;
  /** PEM. `ca` may be left out when `caFingerprint` is given. The broker's certificate is always verified. */
  tls: { ca?: string; cert?: string; key?: string };
  /** Trust the authority with this SHA-256 (lower-case hexadecimal) that the broker shows. */
  caFingerprint?: string;
  username?: string;
  password?: string;
  /** Last will; made anew for each connection. */
  will?: () => Will;
  /** Default 60. */
  keepaliveSeconds?: number;
  /** Default: see reconnection.ts. */
  connectTimeoutMs?: number;
  /** Waits between attempts double from first to max, each shortened at random by up to half. Default: see reconnection.ts. */
  backoffMs?: { first: number; max: number };
  /**
   * Resolve only when connected, and reject with what went wrong after this long (ms). Without it the link
   * is given at once, offline, and keeps trying.
   */
  waitForFirstConnection?: number;
  logger?: Logger;
}

export interface MqttLink extends Link {
  /** Why it is offline; null while online and before the first attempt ended. */
  readonly problem: AppError | null;
  /** Ends the connection, and makes no other for so long (ms): another computer has the same name. */
  standBack(ms: number): void;
}

/** A connection that lasted this long was a good one: the next wait is short again. */
const stableAfterMs = 5_000;
const defaultPublishTimeoutMs = 30_000;

/**
 * @throws AppError CONFIG_INVALID for an address that is not `mqtts://`; with `waitForFirstConnection` also
 * BROKER_UNREACHABLE | BROKER_REFUSED
 */
export async function connectMqtt(options: MqttLinkOptions): Promise<MqttLink> {
  const address = parseBrokerAddress(options.url);
  const logger = options.logger ?? silentLogger;
  const subscriptions = createSubscriptions(logger);
  const listeners = new Set<(online: boolean) => void>();
  const counters = { bytesSent: 0, bytesReceived: 0 };
  const window = createSendWindow();
  const closing = new AbortController();
  let authority = options.tls.ca;
  let session: Session | null = null;
  let problem: AppError | null = null;
  let standBackMs = 0;

  function setStatus(online: boolean): void {
    for (const listener of [...listeners]) {
      try {
        listener(online);
      } catch (error) {
        logger.warn({ error }, 'a connection status could not be handled');
      }
    }
  }

  /** One connection, from the attempt to its end. @throws when it did not come about */
  async function connectOnce(onOpen: () => void): Promise<void> {
    const connectTimeoutMs = options.connectTimeoutMs ?? reconnection.connectTimeoutMs;
    if (authority === undefined) {
      if (options.caFingerprint === undefined)
        throw new AppError('CONFIG_INVALID', 'No authority to trust is set.');
      authority = await fetchPinnedAuthority(
        address,
        options.caFingerprint,
        connectTimeoutMs,
        closing.signal,
      );
    }
    const ended = Promise.withResolvers<unknown>();
    const opened = await openSession({
      address,
      clientId: options.clientId,
      tls: { ...options.tls, ca: authority },
      ...(options.username === undefined ? {} : { username: options.username }),
      ...(options.password === undefined ? {} : { password: options.password }),
      ...(options.will === undefined ? {} : { will: options.will() }),
      keepaliveSeconds: options.keepaliveSeconds ?? 60,
      connectTimeoutMs,
      signal: closing.signal,
      onMessage(message) {
        counters.bytesReceived += message.payload.length;
        subscriptions.dispatch(message);
      },
      onEnd: ended.resolve,
    });
    if (closing.signal.aborted) return opened.close();
    // Subscribed before anybody hears of the connection, so that an answer to the first message is not missed.
    const restored = new Set(subscriptions.filters);
    session = opened;
    await Promise.all([...restored].map((filter) => restore(opened, filter)));
    problem = null;
    setStatus(true);
    onOpen();
    const reason = await ended.promise;
    session = null;
    if (reason !== null) problem = describeConnectionProblem(reason, address);
    else
      problem ??= new AppError('BROKER_UNREACHABLE', `The broker at ${address.host} closed the connection.`);
    setStatus(false);
  }

  async function restore(opened: Session, filter: string): Promise<void> {
    try {
      if (!(await opened.subscribe(filter))) logger.warn({ filter }, 'the broker refused a subscription');
    } catch (error) {
      logger.warn({ error, filter }, 'a subscription could not be renewed');
    }
  }

  /** Connects again and again until the link is closed. */
  async function keepConnected(onOpen: () => void, onFailure: (error: AppError) => void): Promise<void> {
    const { first, max } = options.backoffMs ?? reconnection.backoffMs;
    let waitMs = first;
    while (!closing.signal.aborted) {
      const startedAt = performance.now();
      try {
        await connectOnce(onOpen);
      } catch (error) {
        problem = describeConnectionProblem(error, address);
        onFailure(problem);
      }
      session = null;
      if (closing.signal.aborted) return;
      logger.warn({ code: problem?.code, broker: address.host }, problem?.message ?? 'connection lost');
      if (performance.now() - startedAt > stableAfterMs) waitMs = first;
      const leastMs = standBackMs;
      standBackMs = 0;
      await sleep(Math.max(leastMs, waitMs * (0.5 + Math.random() / 2)), undefined, {
        signal: closing.signal,
      }).catch(() => {});
      waitMs = Math.min(waitMs * 2, max);
    }
  }

  const link: MqttLink = {
    clientId: options.clientId,
    counters,
    get online() {
      return session !== null;
    },
    get problem() {
      return problem;
    },
    async publish(topic, payload, publishOptions: PublishOptions = {}) {
      const timeoutMs = publishOptions.timeoutMs ?? defaultPublishTimeoutMs;
      const deadlineMs = performance.now() + timeoutMs;
      await window.run(payload.length, timeoutMs, async () => {
        const current = session;
        if (current === null) throw problem ?? offline(address);
        if (publishOptions.mayLeave?.() === false) return;
        try {
          counters.bytesSent += payload.length;
          await current.publish(
            topic,
            payload,
            publishOptions.retain ?? false,
            Math.max(1, deadlineMs - performance.now()),
          );
        } catch (error) {
          throw new AppError('BROKER_UNREACHABLE', 'The broker did not accept a message in time.', {
            cause: error,
          });
        }
      });
    },
    async subscribe(filter, handler) {
      const remove = subscriptions.add(filter, handler);
      const current = session;
      // Offline, or lost meanwhile: the next connection subscribes.
      const granted = current === null ? true : await current.subscribe(filter).catch(() => true);
      if (!granted) {
        remove();
        throw new AppError('BROKER_REFUSED', 'The broker does not let this installation subscribe.');
      }
      return async () => {
        if (remove()) await session?.unsubscribe(filter).catch(() => {});
      };
    },
    standBack(ms) {
      standBackMs = ms;
      void session?.close();
    },
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      closing.abort();
      const current = session;
      await current?.close();
      session = null;
      subscriptions.clear();
      listeners.clear();
      await running;
    },
  };

  const firstOpen = Promise.withResolvers<void>();
  firstOpen.promise.catch(() => {});
  const running = keepConnected(firstOpen.resolve, (error) => {
    if (error.code === 'BROKER_REFUSED' || error.code === 'CONFIG_INVALID') firstOpen.reject(error);
  });
  if (options.waitForFirstConnection !== undefined) {
    const timer = setTimeout(
      () => firstOpen.reject(problem ?? offline(address)),
      options.waitForFirstConnection,
    );
    try {
      await firstOpen.promise;
    } catch (error) {
      await link.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
  return link;
}

function offline(address: URL): AppError {
  return new AppError('BROKER_UNREACHABLE', `There is no connection to the broker at ${address.host}.`);
}

/** @throws AppError CONFIG_INVALID */
function parseBrokerAddress(url: string): URL {
  let address: URL | null = null;
  try {
    address = new URL(url);
  } catch {}
  if (address === null || address.hostname === '') {
    throw new AppError('CONFIG_INVALID', 'The address of the broker is not of the form mqtts://host:port.');
  }
  if (address.protocol !== 'mqtts:') {
    throw new AppError(
      'CONFIG_INVALID',
      'Anneal connects to brokers over TLS only: the address must start with mqtts://.',
    );
  }
  return address;
}
