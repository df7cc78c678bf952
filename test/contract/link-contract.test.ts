/** What every link must do, over the memory twin, aedes and Mosquitto. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Link, LinkMessage } from '../../core/transport/link.ts';
import { createPresence, watchPresence } from '../../core/transport/presence.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import {
  brokerKinds,
  federation,
  signerOf,
  startTestBroker,
  type TestBroker,
  until,
} from './test-brokers.ts';

const topics = createTopics(federation);
const bytes = (text: string) => Buffer.from(text);
const text = (message: LinkMessage) => Buffer.from(message.payload).toString();

describe.each(brokerKinds('memory', 'aedes', 'mosquitto'))('a link over %s', (kind) => {
  let broker: TestBroker;
  const links: Link[] = [];
  const connect = async (...args: Parameters<TestBroker['connect']>) => {
    const link = await broker.connect(...args);
    links.push(link);
    return link;
  };

  beforeEach(async () => {
    broker = await startTestBroker(kind);
  });
  afterEach(async () => {
    await Promise.all(links.splice(0).map((link) => link.close()));
    await broker.close();
  });

  test('delivers in order and counts payload bytes', async () => {
    const coordinator = await connect(coordinatorId);
    const site = await connect('site-a');
    const heard: string[] = [];
    await coordinator.subscribe(topics.everySite.messages, async (message) => {
      // Slower than they arrive: the order must hold all the same.
      await new Promise((resolve) => setTimeout(resolve, heard.length === 0 ? 50 : 0));
      heard.push(`${topics.siteOf(message.topic)} ${text(message)}`);
    });

    for (const word of ['one', 'two', 'three'])
      await site.publish(topics.message('site-a', 'up'), bytes(word));
    await until(() => heard.length === 3);

    expect(heard).toEqual(['site-a one', 'site-a two', 'site-a three']);
    expect(site.counters.bytesSent).toBe(11);
    expect(coordinator.counters.bytesReceived).toBe(11);
  });

  test('a filter with wildcards hears all sites and nothing else', async () => {
    const coordinator = await connect(coordinatorId);
    const [a, b] = [await connect('site-a'), await connect('site-b')];
    const heard: string[] = [];
    await coordinator.subscribe(topics.everySite.messages, (message) => void heard.push(message.topic));

    await a.publish(topics.chunks('site-a', 'up'), bytes('not this'));
    await a.publish(topics.message('site-a', 'up'), bytes('x'));
    await b.publish(topics.message('site-b', 'up'), bytes('y'));
    await until(() => heard.length >= 2);

    expect(heard.sort()).toEqual([topics.message('site-a', 'up'), topics.message('site-b', 'up')]);
  });

  test('a retained message reaches who subscribes later; an empty one removes it', async () => {
    const coordinator = await connect(coordinatorId);
    await coordinator.publish(topics.manifest, bytes('round 3'), { retain: true });
    const heard: LinkMessage[] = [];
    const late = await connect('site-a');
    await late.subscribe(topics.manifest, (message) => void heard.push(message));
    await until(() => heard.length === 1);
    expect(text(heard[0]!)).toBe('round 3');
    expect(heard[0]!.retained).toBe(true);

    await coordinator.publish(topics.manifest, bytes('round 4'), { retain: true });
    await until(() => heard.length === 2);
    expect(heard[1]!.retained).toBe(false);

    await coordinator.publish(topics.manifest, bytes(''), { retain: true });
    await until(() => heard.length === 3);
    const later = await connect('site-b');
    const nothing: LinkMessage[] = [];
    await later.subscribe(topics.manifest, (message) => void nothing.push(message));
    await coordinator.publish(topics.manifest, bytes('live'));
    await until(() => nothing.length > 0);
    expect(nothing.map(text)).toEqual(['live']);
  });

  test('a handler that throws does not stop the link, and one that left hears nothing', async () => {
    const coordinator = await connect(coordinatorId);
    const site = await connect('site-a');
    const heard: string[] = [];
    let left = 0;
    const leave = await coordinator.subscribe(topics.everySite.messages, () => void left++);
    await coordinator.subscribe(topics.message('site-a', 'up'), (message) => {
      heard.push(text(message));
      if (heard.length === 1) throw new Error('broken');
    });
    await site.publish(topics.message('site-a', 'up'), bytes('one'));
    await until(() => heard.length >= 1 && left >= 1);
    const before = left;
    await leave();
    await site.publish(topics.message('site-a', 'up'), bytes('two'));
    await until(() => heard.includes('two'));
    expect(left).toBe(before);
  });

  test('the last will comes when a client is lost, and not when it says goodbye', async () => {
    const coordinator = await connect(coordinatorId);
    const wills: string[] = [];
    await coordinator.subscribe(topics.everySite.presence, (message) => void wills.push(text(message)));
    const will = () => ({ topic: topics.presence('site-a'), payload: bytes('gone'), retain: true });
    const polite = await connect('site-a', { will });
    await polite.close();
    const lost = await connect('site-a', { will });
    expect(wills).toEqual([]);

    if (broker.drop !== undefined) broker.drop('site-a');
    // Mosquitto can't be told to drop a client, but a second connection with its id takes it over.
    else await connect('site-a');
    await until(() => wills.length > 0);

    expect(wills).toEqual(['gone']);
    await lost.close();
  });

  test('comes back after the broker was killed: status, subscriptions and will', async () => {
    const coordinator = await connect(coordinatorId);
    const site = await connect('site-a');
    const heard: string[] = [];
    const status: boolean[] = [];
    coordinator.onStatus((online) => void status.push(online));
    await coordinator.subscribe(topics.everySite.messages, (message) => void heard.push(text(message)));

    await broker.kill();
    await until(() => !coordinator.online && !site.online);
    await expect(site.publish(topics.message('site-a', 'up'), bytes('lost'))).rejects.toMatchObject({
      code: 'BROKER_UNREACHABLE',
    });
    await broker.restart();
    await until(() => coordinator.online && site.online);
    await site.publish(topics.message('site-a', 'up'), bytes('back'));
    await until(() => heard.length > 0);

    expect(heard).toEqual(['back']);
    expect(status).toEqual([false, true]);
  });

  test('a site is not heard on the topics of another, and does not hear them', async () => {
    const coordinator = await connect(coordinatorId);
    const [good, bad] = [await connect('site-a'), await connect('site-b')];
    const heard: string[] = [];
    const overheard: string[] = [];
    await coordinator.subscribe(topics.everySite.messages, (message) => void heard.push(text(message)));
    // aedes and the twin refuse; Mosquitto grants and then does not deliver.
    await bad
      .subscribe(topics.message('site-a', 'down'), (m) => void overheard.push(text(m)))
      .catch(() => {});
    await bad.subscribe('#', (m) => void overheard.push(text(m))).catch(() => {});

    await bad.publish(topics.message('site-a', 'up'), bytes('forged')).catch(() => {});
    await bad.publish(topics.manifest, bytes('forged'), { retain: true }).catch(() => {});
    await coordinator.publish(topics.message('site-a', 'down'), bytes('secret'));
    await good.publish(topics.message('site-a', 'up'), bytes('genuine'));
    await until(() => heard.length > 0);

    expect(heard).toEqual(['genuine']);
    expect(overheard).toEqual([]);
  });

  test('presence: online, lost, and a will of an older connection counts for nothing', async () => {
    const coordinator = await connect(coordinatorId);
    const seen: string[] = [];
    const watch = await watchPresence(
      coordinator,
      federation,
      (id) => signerOf(id).publicKey,
      (siteId, online) => void seen.push(`${siteId} ${online}`),
    );
    const presence = createPresence(federation, signerOf('site-a'));
    const olderWill = presence.will();
    const site = await connect('site-a', { will: presence.will });
    presence.attach(site);
    await until(() => watch.online.has('site-a'));

    await site.publish(olderWill.topic, olderWill.payload, { retain: true });
    await site.publish(olderWill.topic, bytes('{"forged":true}'), { retain: true });
    await presence.leave();
    await until(() => !watch.online.has('site-a'));

    expect(seen).toEqual(['site-a true', 'site-a false']);
    await watch.close();
  });
});
