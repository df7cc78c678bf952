/**
 * One MQTT connection from CONNECT to its end. It never reconnects and never queues: when it ends, everything
 * that waits on it fails. `mqtt-link.ts` makes a new one each time, so nothing of a lost connection lingers.
 */
import mqtt, { type MqttClient } from 'mqtt';
import type { LinkMessage } from './link.ts';
import { giveUpMs } from './reconnection.ts';

export interface Will {
  topic: string;
  payload: Uint8Array;
  retain: boolean;
}

export interface SessionOptions {
  address: URL;
  clientId: string;
  tls: { ca: string; cert?: string; key?: string };
  username?: string;
  password?: string;
  will?: Will;
  keepaliveSeconds: number;
  connectTimeoutMs: number;
  /** Gives up an attempt that is under way. */
  signal: AbortSignal;
  onMessage(message: LinkMessage): void;
  /** Called once. `error` when the connection did not come about or broke with a reason. */
  onEnd(error: unknown): void;
}

export interface Session {
  /** Acknowledged by the broker. */
  publish(topic: string, payload: Uint8Array, retain: boolean, timeoutMs: number): Promise<void>;
  /** False when the broker refuses the filter. */
  subscribe(filter: string): Promise<boolean>;
  unsubscribe(filter: string): Promise<void>;
  /** Says goodbye, so that the will is not published. */
  close(): Promise<void>;
}

const acknowledgeTimeoutMs = 30_000;
const goodbyeMs = 1_000;

/** Resolves when the broker accepted the connection. @throws whatever broke it; `onEnd` is not called then */
export function openSession(options: SessionOptions): Promise<Session> {
  const client = mqtt.connect(options.address.href, {
    clientId: options.clientId,
    protocolVersion: 4,
    clean: true,
    ...options.tls,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    ...(options.username === undefined ? {} : { username: options.username }),
    ...(options.password === undefined ? {} : { password: options.password }),
    ...(options.will === undefined
      ? {}
      : { will: { ...options.will, payload: Buffer.from(options.will.payload), qos: 1 as const } }),
    keepalive: options.keepaliveSeconds,
    connectTimeout: options.connectTimeoutMs,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
  } as mqtt.IClientOptions);
  // Without `reconnectPeriod` mqtt.js leaves callbacks of a lost connection uncalled, so each waiter is kept here.
  const waiters = new Set<(error: Error) => void>();
  let opened = false;
  let ended = false;
  let problem: unknown = null;

  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => end(new Error('no answer to CONNECT in time')),
      options.connectTimeoutMs + giveUpMs,
    );
    const abort = () => end(new Error('closed'));
    function end(error: unknown): void {
      clearTimeout(timer);
      if (ended) return;
      ended = true;
      options.signal.removeEventListener('abort', abort);
      client.end(true);
      // `end` does nothing while a goodbye waits for an acknowledgement that never comes; an open socket and its
      // keepalive would then hold the process for a minute and a half.
      client.stream.destroy();
      for (const fail of waiters) fail(new Error('connection lost'));
      waiters.clear();
      if (opened) options.onEnd(error);
      else reject(error ?? new Error('connection closed'));
    }
    client.on('error', (error) => {
      problem ??= error;
      // A refused CONNACK or certificate closes the stream; end here in case no 'close' follows.
      if (!opened) end(error);
    });
    client.on('close', () => end(problem));
    client.on('message', (topic, payload, packet) => {
      // Received messages don't reset mqtt.js's keepalive, and a slow download would break on it.
      client.reschedulePing(true);
      options.onMessage({ topic, payload, retained: packet.retain });
    });
    options.signal.addEventListener('abort', abort, { once: true });
    client.once('connect', () => {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', abort);
      if (ended) return;
      opened = true;
      resolve(createSession(client, waiters, () => ended, end));
    });
  });
}

function createSession(
  client: MqttClient,
  waiters: Set<(error: Error) => void>,
  isEnded: () => boolean,
  end: (error: unknown) => void,
): Session {
  /** Runs one acknowledged exchange that fails with the connection or after a while. */
  function exchange<T>(
    timeoutMs: number,
    send: (done: (error: Error | null | undefined, value?: T) => void) => void,
    onTimeout?: () => void,
  ): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const settle = (error: Error | null | undefined, value?: T) => {
        clearTimeout(timer);
        waiters.delete(settle);
        if (error) reject(error);
        else resolve(value);
      };
      const timer = setTimeout(() => {
        settle(new Error('no acknowledgement in time'));
        onTimeout?.();
      }, timeoutMs);
      waiters.add(settle);
      if (isEnded()) settle(new Error('connection lost'));
      else send(settle);
    });
  }

  return {
    async publish(topic, payload, retain, timeoutMs) {
      let messageId = 0;
      await exchange<void>(
        timeoutMs,
        (done) => {
          client.publish(topic, payload as Buffer, { qos: 1, retain }, (error) => done(error));
          messageId = client.getLastMessageId();
        },
        () => client.removeOutgoingMessage(messageId),
      );
    },
    async subscribe(filter) {
      const granted = await exchange<mqtt.ISubscriptionGrant[]>(acknowledgeTimeoutMs, (done) => {
        client.subscribe(filter, { qos: 1 }, (error, grants) => {
          // mqtt.js makes an error of a refusal (SUBACK 0x80) and attaches the packet.
          const codes = (error as { packet?: { granted?: number[] } } | null)?.packet?.granted ?? [];
          const refused = codes.some((code) => code >= 0x80);
          done(refused ? null : error, refused ? [{ topic: filter, qos: 128 }] : grants);
        });
      });
      return granted?.every((grant) => grant.qos !== 128) ?? true;
    },
    async unsubscribe(filter) {
      await exchange<void>(acknowledgeTimeoutMs, (done) => {
        client.unsubscribe(filter, (error) => done(error));
      });
    },
    close() {
      return new Promise((resolve) => {
        const finish = () => {
          clearTimeout(timer);
          end(null);
          resolve();
        };
        const timer = setTimeout(finish, goodbyeMs);
        client.end(false, finish);
      });
    },
  };
}
