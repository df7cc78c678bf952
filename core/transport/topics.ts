/**
 * The one place for topic names and for who may speak on which. `up` is from a site to the coordinator.
 *
 *     anneal/<federation>/manifest                              coordinator, retained
 *     anneal/<federation>/site/<site>/up | down                 signed messages
 *     anneal/<federation>/site/<site>/presence                  site, retained, and its last will
 *     anneal/<federation>/site/<site>/blob/up | down            chunk frames in that direction
 *     anneal/<federation>/site/<site>/blob/ask/up | down        signed requests for chunks
 *     anneal/<federation>/enrol/<id>/request | reply            the only topics without a certificate
 */

/** Common name and client id of the coordinator's own certificate; no site gets it. */
export const coordinatorId = 'coordinator';

/** Ids of enrolments, which are the client ids of connections without a certificate, start with this. */
export const enrolmentClientPrefix = 'enrol-';

const namePattern = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** Whether a federation, site or enrolment id may be a level of a topic, a common name and a client id. */
export function isTopicName(name: string): boolean {
  return namePattern.test(name);
}

export type Direction = 'up' | 'down';

export interface Topics {
  readonly manifest: string;
  message(siteId: string, direction: Direction): string;
  presence(siteId: string): string;
  chunks(siteId: string, direction: Direction): string;
  chunkRequests(siteId: string, direction: Direction): string;
  enrolment(id: string, part: 'request' | 'reply'): string;
  /** Filters over all sites, for the coordinator. */
  readonly everySite: {
    messages: string;
    presence: string;
    chunks: string;
    chunkRequests: string;
    enrolments: string;
  };
  /** The site of a topic under `site/`, or null. */
  siteOf(topic: string): string | null;
  /** The id of an enrolment topic, or null. */
  enrolmentOf(topic: string): string | null;
}

/** @throws TypeError when the federation's id can't be part of a topic */
export function createTopics(federation: string): Topics {
  if (!isTopicName(federation)) throw new TypeError('a federation id is made of a-z, 0-9 and -');
  const root = `anneal/${federation}`;
  const site = (siteId: string) => {
    if (!isTopicName(siteId)) throw new TypeError('a site id is made of a-z, 0-9 and -');
    return `${root}/site/${siteId}`;
  };
  const levelAfter = (prefix: string, topic: string) => {
    if (!topic.startsWith(prefix)) return null;
    const name = topic.slice(prefix.length).split('/', 1)[0]!;
    return isTopicName(name) ? name : null;
  };
  return {
    manifest: `${root}/manifest`,
    message: (siteId, direction) => `${site(siteId)}/${direction}`,
    presence: (siteId) => `${site(siteId)}/presence`,
    chunks: (siteId, direction) => `${site(siteId)}/blob/${direction}`,
    chunkRequests: (siteId, direction) => `${site(siteId)}/blob/ask/${direction}`,
    enrolment(id, part) {
      if (!isTopicName(id)) throw new TypeError('an enrolment id is made of a-z, 0-9 and -');
      return `${root}/enrol/${id}/${part}`;
    },
    everySite: {
      messages: `${root}/site/+/up`,
      presence: `${root}/site/+/presence`,
      chunks: `${root}/site/+/blob/up`,
      chunkRequests: `${root}/site/+/blob/ask/up`,
      enrolments: `${root}/enrol/+/request`,
    },
    siteOf: (topic) => levelAfter(`${root}/site/`, topic),
    enrolmentOf: (topic) => levelAfter(`${root}/enrol/`, topic),
  };
}

/** Who is at the other end of a connection, as its certificate says. */
export type Identity =
  | { kind: 'coordinator' }
  | { kind: 'site'; siteId: string }
  | { kind: 'enrolling'; id: string };

/** What an identity may say and hear. Retained messages only where something reads them later. */
export function mayPublish(topics: Topics, identity: Identity, topic: string, retain: boolean): boolean {
  switch (identity.kind) {
    case 'coordinator':
      if (retain) return topic === topics.manifest;
      return (
        topic === topics.manifest ||
        topics.enrolmentOf(topic) !== null ||
        (topics.siteOf(topic) !== null && topic.endsWith('/down'))
      );
    case 'site':
      if (retain) return topic === topics.presence(identity.siteId);
      return [
        topics.presence(identity.siteId),
        topics.message(identity.siteId, 'up'),
        topics.chunks(identity.siteId, 'up'),
        topics.chunkRequests(identity.siteId, 'up'),
      ].includes(topic);
    case 'enrolling':
      return !retain && topic === topics.enrolment(identity.id, 'request');
  }
}

export function maySubscribe(topics: Topics, identity: Identity, filter: string): boolean {
  switch (identity.kind) {
    case 'coordinator':
      return filter.startsWith(`${topics.manifest.slice(0, -'manifest'.length)}`);
    case 'site':
      return [
        topics.manifest,
        topics.message(identity.siteId, 'down'),
        topics.chunks(identity.siteId, 'down'),
        topics.chunkRequests(identity.siteId, 'down'),
      ].includes(filter);
    case 'enrolling':
      return filter === topics.enrolment(identity.id, 'reply');
  }
}

/** MQTT 4.7: whether a topic matches a filter with `+` and `#`. */
export function topicMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/');
  const levels = topic.split('/');
  if (topic.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return false;
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true;
    if (index >= levels.length) return false;
    if (level !== '+' && level !== levels[index]) return false;
  }
  return wanted.length === levels.length;
}
