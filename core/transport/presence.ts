/** Who is connected: a retained, signed message per site, turned over by the broker when the site is lost. */
import { randomUUID } from 'node:crypto';
import { type Logger, silentLogger } from '../shared/logger.ts';
import { openIfValid, sealEnvelope } from './envelope.ts';
import type { Link } from './link.ts';
import { isLater, type MessageOrder } from './message-order.ts';
import { presenceSchema } from './messages.ts';
import type { Will } from './mqtt-session.ts';
import type { Stamp } from './own-position.ts';
import type { Signer } from './signature.ts';
import { createTopics } from './topics.ts';

/** A goodbye is a courtesy: without it the broker publishes the will. */
const goodbyeMs = 1_000;

export interface Presence {
  /** For `connectMqtt({will})`: the `offline` of the connection that is about to be made. */
  will(): Will;
  /** Says `online` at each connection of the link. */
  attach(link: Link): void;
  /** Says `online` once more: the store went back in time, and what was said before counts as old. */
  again(): void;
  /** Says `offline`; call it before the link is closed. */
  leave(): Promise<void>;
}

/**
 * A site's own presence. Order of use: `connectMqtt({…, will: presence.will})`, then `presence.attach(link)`.
 * @param stamp places of its messages; undefined while the coordinator knows of none
 */
export function createPresence(
  federation: string,
  signer: Signer,
  logger: Logger = silentLogger,
  stamp: () => Stamp | undefined = () => undefined,
): Presence {
  const topic = createTopics(federation).presence(signer.id);
  let session = randomUUID();
  let link: Link | null = null;
  let remove: (() => void) | null = null;

  const seal = (online: boolean) =>
    sealEnvelope({ federation, type: 'presence', body: { online, session }, stamp: stamp() }, signer);

  async function say(online: boolean, timeoutMs?: number): Promise<void> {
    try {
      await link?.publish(topic, seal(online), {
        retain: true,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
    } catch (error) {
      logger.info({ error }, 'presence not published');
    }
  }

  return {
    will() {
      session = randomUUID();
      return { topic, payload: seal(false), retain: true };
    },
    attach(attached) {
      link = attached;
      remove = attached.onStatus((online) => {
        if (online) void say(true);
      });
      if (attached.online) void say(true);
    },
    again() {
      if (link?.online) void say(true);
    },
    async leave() {
      remove?.();
      if (link?.online) await say(false, goodbyeMs);
      link = null;
    },
  };
}

interface Connection {
  session: string;
  at: Date;
  order: MessageOrder | null;
}

/** By places, where both have one of the same life of the site's store; a clock that was set right tells nothing. */
function isBefore(a: Connection, b: Connection): boolean {
  if (a.order === null || b.order === null) return a.order === null && b.order !== null ? true : a.at < b.at;
  return a.order.epoch === b.order.epoch && isLater(b.order, a.order);
}

export type PresenceListener = (siteId: string, online: boolean, at: Date) => void;

export interface PresenceWatch {
  /** Sites that are connected as far as the broker reported. */
  readonly online: ReadonlySet<string>;
  close(): Promise<void>;
}

/**
 * For the coordinator. A will that belongs to an older connection than the newest `online` counts for nothing.
 * @param keyOf public key of a site (base64url), null when unknown or revoked
 * @param onInvalid hears of a message on a site's own topic that is none
 */
export async function watchPresence(
  link: Link,
  federation: string,
  keyOf: (siteId: string) => string | null,
  listener: PresenceListener,
  onInvalid: (siteId: string) => void = () => {},
): Promise<PresenceWatch> {
  const topics = createTopics(federation);
  const sessions = new Map<string, Connection>();
  const online = new Set<string>();
  const unsubscribe = await link.subscribe(topics.everySite.presence, (message) => {
    const siteId = topics.siteOf(message.topic);
    if (siteId === null || message.payload.length === 0 || keyOf(siteId) === null) return;
    const expected = { federation, sender: siteId, keyOf, bodies: { presence: presenceSchema } };
    const opened = openIfValid(message.payload, expected);
    if (opened === null) {
      onInvalid(siteId);
      return;
    }
    const { body, at, order } = opened;
    const known = sessions.get(siteId);
    if (body.online) {
      const connection = { session: body.session, at, order };
      if (known !== undefined && known.session !== body.session && isBefore(connection, known)) return;
      sessions.set(siteId, connection);
      online.add(siteId);
    } else {
      if (known !== undefined && known.session !== body.session) return;
      online.delete(siteId);
    }
    listener(siteId, body.online, at);
  });
  return { online, close: unsubscribe };
}
