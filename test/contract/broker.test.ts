/** What the embedded broker refuses, and that one bad client does not hurt the others. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect as connectTcp, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as connectTlsSocket, type TLSSocket } from 'node:tls';
import mqttPacket from 'mqtt-packet';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAuthority } from '../../core/enrolment/authority.ts';
import { startBroker } from '../../core/transport/broker.ts';
import type { Link } from '../../core/transport/link.ts';
import { connectMqtt } from '../../core/transport/mqtt-link.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { certify, federation, startTestBroker, type TestBroker, until } from './test-brokers.ts';

const topics = createTopics(federation);

describe('the embedded broker', () => {
  let broker: TestBroker;
  let port: number;
  const revoked = new Set<string>();
  const links: Link[] = [];
  const sockets: TLSSocket[] = [];

  beforeEach(async () => {
    revoked.clear();
    broker = await startTestBroker('aedes', {
      mayConnect: ({ siteId }) => !revoked.has(siteId),
      limits: { enrolling: 2, enrollingMs: 400, bufferedBytesPerSite: 2 * 1024 * 1024 },
    });
    port = Number(new URL(broker.url).port);
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await Promise.all(links.splice(0).map((link) => link.close()));
    await broker.close();
  });

  const connect = async (id: string) => {
    const link = await broker.connect(id);
    links.push(link);
    return link;
  };
  /** A client of bare bytes. */
  async function openSocket(tls: { ca?: string; cert?: string; key?: string }): Promise<TLSSocket> {
    const socket = connectTlsSocket({ host: '127.0.0.1', port, ca: broker.authority.certificate, ...tls });
    sockets.push(socket);
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    return socket;
  }
  const packet = (value: mqttPacket.Packet) => mqttPacket.generate(value);
  const connectPacket = (clientId: string, clean = true) =>
    packet({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean, clientId, keepalive: 60 });
  const isOpen = (socket: TLSSocket) => !socket.destroyed && socket.readyState === 'open';
  async function answers(socket: TLSSocket): Promise<Buffer> {
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    return bytes;
  }

  test('refuses a client id that is not the name in the certificate', async () => {
    const tls = await certify(broker.authority, 'site-b');
    const connecting = connectMqtt({
      url: broker.url,
      clientId: 'site-a',
      tls,
      waitForFirstConnection: 3_000,
    });
    await expect(connecting).rejects.toMatchObject({ code: 'BROKER_REFUSED' });
  });

  test('refuses certificates of another authority, and a link refuses such a broker', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'anneal-authority-'));
    try {
      const other = await createAuthority(folder, federation);
      const foreign = await certify(other, 'site-a');
      const ca = broker.authority.certificate;
      const wrongClient = connectMqtt({
        url: broker.url,
        clientId: 'site-a',
        tls: { ...foreign, ca },
        waitForFirstConnection: 1_000,
      });
      await expect(wrongClient).rejects.toMatchObject({ code: expect.stringMatching(/^BROKER_/) });
      const own = await certify(broker.authority, 'site-a');
      const wrongBroker = connectMqtt({
        url: broker.url,
        clientId: 'site-a',
        tls: { ...own, ca: foreign.ca },
        waitForFirstConnection: 3_000,
      });
      await expect(wrongBroker).rejects.toMatchObject({ code: 'BROKER_REFUSED' });
      // A site's own certificate is no server's: nobody who joined can pose as the broker.
      const posing = await startBroker({
        federation,
        port: 0,
        host: '127.0.0.1',
        tls: own,
        mayConnect: () => true,
      });
      const fooled = connectMqtt({
        url: `mqtts://127.0.0.1:${posing.port}`,
        clientId: 'site-a',
        tls: own,
        waitForFirstConnection: 3_000,
      });
      await expect(fooled).rejects.toMatchObject({ code: 'BROKER_REFUSED' });
      await posing.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('a revoked site is disconnected and not let in again', async () => {
    const site = await connect('site-a');
    const other = await connect('site-b');
    revoked.add('site-a');

    broker.drop!('site-a');
    await until(() => !site.online);
    await until(() => (site as { problem?: { code: string } | null }).problem?.code === 'BROKER_REFUSED');

    expect(other.online).toBe(true);
    expect(site.online).toBe(false);
  });

  test('a site that speaks for another is disconnected at once', async () => {
    const site = await connect('site-b');
    let lost = 0;
    site.onStatus((online) => void (online || lost++));

    await site.publish(topics.message('site-a', 'up'), Buffer.from('forged')).catch(() => {});
    await until(() => lost > 0 && site.online);

    await expect(site.subscribe(topics.message('site-a', 'down'), () => {})).rejects.toMatchObject({
      code: 'BROKER_REFUSED',
    });
  });

  test('refuses sessions that outlive their connection', async () => {
    const socket = await openSocket(await certify(broker.authority, 'site-a'));
    socket.resume();
    socket.write(connectPacket('site-a', false));
    await until(() => !isOpen(socket));
  });

  test('breaks off a packet that is too large at its header, before and after CONNECT', async () => {
    const tls = await certify(broker.authority, 'site-a');
    const stranger = await openSocket({});
    stranger.resume();
    // CONNECT of 200 MB announced; only the header is sent.
    stranger.write(Buffer.from([0x10, 0x80, 0x84, 0xaf, 0x5f]));
    await until(() => !isOpen(stranger));

    const member = await openSocket(tls);
    member.write(connectPacket('site-a'));
    expect((await answers(member))[3]).toBe(0);
    member.resume();
    const topic = topics.message('site-a', 'up');
    const fits = packet({
      cmd: 'publish',
      topic,
      payload: Buffer.alloc(1_000_000),
      qos: 0,
      dup: false,
      retain: false,
    });
    member.write(fits);
    member.write(packet({ cmd: 'pingreq' }));
    await answers(member);
    expect(isOpen(member)).toBe(true);
    const large = packet({
      cmd: 'publish',
      topic,
      payload: Buffer.alloc(1_100_000),
      qos: 0,
      dup: false,
      retain: false,
    });
    member.write(large.subarray(0, 10));
    await until(() => !isOpen(member));
  });

  test('whoever does not begin with CONNECT, or in plain text, is cut off', async () => {
    const http = await openSocket({});
    http.resume();
    http.write('GET / HTTP/1.1\r\n\r\n');
    await until(() => !isOpen(http));

    const plain = connectTcp(port, '127.0.0.1');
    plain.on('error', () => {});
    plain.resume();
    plain.write(connectPacket('site-a'));
    await once(plain, 'close');
    await expect(
      connectMqtt({ url: broker.url.replace('mqtts', 'mqtt'), clientId: 'a', tls: {} }),
    ).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test('connections without a certificate are few and short, and take nothing from members', async () => {
    const first = await openSocket({});
    const second = await openSocket({});
    const third = await openSocket({});
    for (const socket of [first, second, third]) socket.resume();
    // The oldest makes room: who only waits keeps nobody out.
    await until(() => !isOpen(first));
    expect([isOpen(second), isOpen(third)]).toEqual([true, true]);

    await connect('site-a');
    await until(() => !isOpen(second) && !isOpen(third), 3_000);
  });

  test('a frozen subscriber is cut off, and the others never wait for it', async () => {
    const coordinator = await connect(coordinatorId);
    const fast = await connect('site-b');
    let heard = 0;
    await fast.subscribe(topics.chunks('site-b', 'down'), () => void heard++);
    const frozen = await openSocket(await certify(broker.authority, 'site-a'));
    frozen.write(connectPacket('site-a'));
    await answers(frozen);
    const filter = topics.chunks('site-a', 'down');
    frozen.write(packet({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos: 1 }] }));
    await answers(frozen);
    frozen.pause();
    let closed = false;
    frozen.on('close', () => {
      closed = true;
    });
    const payload = Buffer.alloc(256 * 1024);
    const startedAt = Date.now();

    for (let index = 0; index < 120; index++) {
      await coordinator.publish(topics.chunks('site-a', 'down'), payload);
      await coordinator.publish(topics.chunks('site-b', 'down'), payload);
    }
    await until(() => heard === 120);

    expect(Date.now() - startedAt).toBeLessThan(10_000);
    // The end is seen when the frozen one reads again; it has not got all 30 MiB.
    let got = 0;
    frozen.on('data', (bytes) => {
      got += bytes.length;
    });
    frozen.resume();
    await until(() => closed);
    expect(got).toBeLessThan(120 * payload.length);
  });

  test('names a port that is taken, and closes quickly with clients connected', async () => {
    const { certificate, key } = await broker.authority.issueServer([]);
    const tls = { ca: broker.authority.certificate, cert: certificate, key };
    const options = { federation, host: '127.0.0.1', tls, mayConnect: () => true };
    await expect(startBroker({ ...options, port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      message: expect.stringContaining(String(port)),
    });
    const second = await startBroker({ ...options, port: 0 });
    const link = await connectMqtt({
      url: `mqtts://localhost:${second.port}`,
      clientId: 'site-a',
      tls: await certify(broker.authority, 'site-a'),
      waitForFirstConnection: 5_000,
    });
    expect(second.connected).toEqual(['site-a']);
    const startedAt = Date.now();

    await second.close();

    expect(Date.now() - startedAt).toBeLessThan(1_000);
    await link.close();
  });

  test('a link that waits for an answer that never comes closes at once', async () => {
    const silent = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `mqtts://127.0.0.1:${(silent.address() as { port: number }).port}`;
    const pinned = await connectMqtt({ url, clientId: 'enrol-a', tls: {}, caFingerprint: 'ab'.repeat(32) });
    const known = await connectMqtt({ url, clientId: 'a', tls: { ca: broker.authority.certificate } });
    const startedAt = Date.now();

    await Promise.all([pinned.close(), known.close()]);

    expect(Date.now() - startedAt).toBeLessThan(1_000);
    silent.close();
  });

  test('a link to a broker that is away is given at once and connects when it comes', async () => {
    await broker.kill();
    const tls = await certify(broker.authority, 'site-a');
    const waiting = { url: broker.url, clientId: 'site-a', tls, backoffMs: { first: 50, max: 100 } };
    await expect(connectMqtt({ ...waiting, waitForFirstConnection: 400 })).rejects.toMatchObject({
      code: 'BROKER_UNREACHABLE',
    });

    const link = await connectMqtt(waiting);
    links.push(link);
    expect(link.online).toBe(false);
    await until(() => link.problem?.code === 'BROKER_UNREACHABLE');
    await broker.restart();
    await until(() => link.online);

    expect(link.problem).toBeNull();
  });
});
