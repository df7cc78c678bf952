/** A broker that keeps its connections and answers nothing, as one whose machine is suspended. */
import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connectMqtt } from '../../core/transport/mqtt-link.ts';
import { createTopics } from '../../core/transport/topics.ts';
import { certify, federation, freePort, startTestBroker, type TestBroker, until } from './test-brokers.ts';

const topic = createTopics(federation).message('site-a', 'up');

/** Passes bytes between a client and the broker until it is told to hang. */
async function startRelay(brokerUrl: string) {
  const port = await freePort();
  const clients = new Set<Socket>();
  const all = new Set<Socket>();
  const server = createServer((client) => {
    const broker = connectTcp(Number(new URL(brokerUrl).port), '127.0.0.1');
    clients.add(client);
    client.on('close', () => clients.delete(client));
    for (const socket of [client, broker]) all.add(socket.on('error', () => {}));
    client.pipe(broker).pipe(client);
  });
  await once(server.listen(port, '127.0.0.1'), 'listening');
  return {
    url: `mqtts://127.0.0.1:${port}`,
    clients,
    hang() {
      for (const socket of all) socket.unpipe();
      // Read and thrown away, so that the end of the client's connection is noticed.
      for (const client of clients) client.resume();
    },
    async close() {
      for (const socket of all) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

let broker: TestBroker;
let relay: Awaited<ReturnType<typeof startRelay>>;
beforeEach(async () => {
  broker = await startTestBroker('aedes');
  relay = await startRelay(broker.url);
});
afterEach(async () => {
  await relay.close();
  await broker.close();
});

test.each([0, 1, 3])(
  'a link with %i messages unacknowledged still lets go of its connection',
  async (count) => {
    const link = await connectMqtt({
      url: relay.url,
      clientId: 'site-a',
      tls: await certify(broker.authority, 'site-a'),
      waitForFirstConnection: 10_000,
    });
    relay.hang();
    const sent = Array.from({ length: count }, () => link.publish(topic, Buffer.from('lost')));
    const outcomes = Promise.allSettled(sent);
    await until(() => link.counters.bytesSent === count * 4);
    await setImmediate();

    await link.close();
    await until(() => relay.clients.size === 0, 5_000);

    expect(await outcomes).toEqual(
      sent.map(() =>
        expect.objectContaining({
          status: 'rejected',
          reason: expect.objectContaining({ code: 'BROKER_UNREACHABLE' }),
        }),
      ),
    );
    expect(link.online).toBe(false);
  },
);
