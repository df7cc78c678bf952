/** The small parts of the transport: topics, packet borders, queues, chunk frames. */
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../core/shared/errors.ts';
import { decodeChunkFrame, encodeChunkFrame } from '../../core/transport/chunk-frame.ts';
import { createConcurrencyLimiter } from '../../core/transport/concurrency-limiter.ts';
import { createFrameScanner } from '../../core/transport/frame-guard.ts';
import { chunkBytes } from '../../core/transport/messages.ts';
import { createSendWindow } from '../../core/transport/send-window.ts';
import { createSubscriptions } from '../../core/transport/subscriptions.ts';
import {
  createTopics,
  isTopicName,
  mayPublish,
  maySubscribe,
  topicMatches,
} from '../../core/transport/topics.ts';

const topics = createTopics('f');
const site = { kind: 'site', siteId: 'a' } as const;
const coordinator = { kind: 'coordinator' } as const;
const enrolling = { kind: 'enrolling', id: 'enrol-1' } as const;

describe('topics', () => {
  test('filters match as MQTT 3.1.1 section 4.7 says', () => {
    const cases: [string, string, boolean][] = [
      ['a/+/c', 'a/b/c', true],
      ['a/+/c', 'a/b/d', false],
      ['a/+', 'a/b/c', false],
      ['a/+', 'a', false],
      ['a/#', 'a', true],
      ['a/#', 'a/b/c', true],
      ['#', 'a', true],
      ['#', '$SYS/x', false],
      ['+/x', '$SYS/x', false],
      ['+/+', '/finance', true],
      ['a/b', 'a/b/c', false],
      ['a/b/c', 'a/b', false],
    ];
    for (const [filter, topic, expected] of cases)
      expect(topicMatches(filter, topic), `${filter} ${topic}`).toBe(expected);
  });

  test('names that could be more than a level are none', () => {
    for (const name of ['', 'a/b', '+', '#', 'A', 'ä', 'a b', '-a', 'a'.repeat(65)])
      expect(isTopicName(name)).toBe(false);
    expect(() => topics.message('a/../b', 'up')).toThrow(TypeError);
    expect(topics.siteOf('anneal/f/site/a/up')).toBe('a');
    expect(topics.siteOf('anneal/f/site/+/up')).toBeNull();
    expect(topics.siteOf('anneal/g/site/a/up')).toBeNull();
  });

  test('each says and hears its own only', () => {
    expect(mayPublish(topics, site, topics.message('a', 'up'), false)).toBe(true);
    expect(mayPublish(topics, site, topics.message('a', 'down'), false)).toBe(false);
    expect(mayPublish(topics, site, topics.message('b', 'up'), false)).toBe(false);
    expect(mayPublish(topics, site, topics.manifest, true)).toBe(false);
    // A retained chunk would stay in the broker's memory.
    expect(mayPublish(topics, site, topics.chunks('a', 'up'), true)).toBe(false);
    expect(mayPublish(topics, site, topics.presence('a'), true)).toBe(true);
    expect(maySubscribe(topics, site, topics.everySite.messages)).toBe(false);
    expect(maySubscribe(topics, site, topics.message('b', 'down'))).toBe(false);
    expect(maySubscribe(topics, site, topics.manifest)).toBe(true);
    expect(mayPublish(topics, coordinator, topics.message('a', 'up'), false)).toBe(false);
    expect(mayPublish(topics, coordinator, topics.chunks('a', 'down'), false)).toBe(true);
    expect(maySubscribe(topics, coordinator, '#')).toBe(false);
    expect(mayPublish(topics, enrolling, topics.enrolment('enrol-1', 'request'), false)).toBe(true);
    expect(mayPublish(topics, enrolling, topics.enrolment('enrol-2', 'request'), false)).toBe(false);
    expect(maySubscribe(topics, enrolling, topics.manifest)).toBe(false);
  });
});

describe('the frame scanner', () => {
  const limits = { firstPacketBytes: 200, packetBytes: 1000 };
  const connect = mqttPacket.generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clean: true,
    clientId: 'a',
  });
  const publish = (size: number) =>
    mqttPacket.generate({
      cmd: 'publish',
      topic: 't',
      payload: Buffer.alloc(size, 0xff),
      qos: 0,
      dup: false,
      retain: false,
    });

  test('finds a packet that is too large however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 990 }), { maxLength: 5 }),
        fc.boolean(),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }),
        (sizes, withLarge, cuts) => {
          const stream = Buffer.concat([
            connect,
            ...sizes.map(publish),
            ...(withLarge ? [publish(1500)] : []),
          ]);
          const accepts = createFrameScanner(limits);
          let accepted = true;
          for (let at = 0, cut = 0; at < stream.length && accepted; cut++) {
            const end = at + cuts[cut % cuts.length]!;
            accepted = accepts(stream.subarray(at, end));
            at = end;
          }
          return accepted === !withLarge;
        },
      ),
    );
  });

  test('refuses another first packet, a large CONNECT and a length without end', () => {
    expect(createFrameScanner(limits)(publish(1))).toBe(false);
    expect(createFrameScanner(limits)(Buffer.from([0x10, 0xc9, 0x01]))).toBe(false);
    expect(createFrameScanner(limits)(Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01]))).toBe(false);
  });
});

describe('the concurrency limiter', () => {
  test('runs a few at a time, in order, and lets waiting ones be cancelled', async () => {
    const queue = createConcurrencyLimiter(2);
    const started: number[] = [];
    const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
    const stop = new AbortController();
    const runs = gates.map((gate, index) =>
      queue.run(
        async () => {
          started.push(index);
          await gate.promise;
        },
        index === 3 ? stop.signal : undefined,
      ),
    );
    await Promise.resolve();
    expect(started).toEqual([0, 1]);
    expect([queue.running, queue.waiting]).toEqual([2, 3]);

    stop.abort();
    await expect(runs[3]).rejects.toMatchObject({ code: 'CANCELLED' });
    gates[1]!.resolve();
    await runs[1];
    await new Promise((resolve) => setImmediate(resolve));
    expect(started).toEqual([0, 1, 2]);
    for (const gate of gates) gate.resolve();
    await Promise.allSettled(runs);
    expect(started).toEqual([0, 1, 2, 4]);
    expect(queue.running).toBe(0);
  });

  test('a task that fails gives its place on', async () => {
    const queue = createConcurrencyLimiter(1);
    const failing = queue.run(() => Promise.reject(new Error('no')));
    const next = queue.run(() => 'done');
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('done');
  });
});

describe('the send window', () => {
  test('bounds what is under way and what waits', async () => {
    const window = createSendWindow(1, 100);
    const gate = Promise.withResolvers<void>();
    const first = window.run(50, 1000, () => gate.promise);
    const second = window.run(90, 1000, async () => 'second');
    await expect(window.run(20, 1000, async () => {})).rejects.toMatchObject({ code: 'BROKER_UNREACHABLE' });
    await expect(window.run(5, 20, async () => {})).rejects.toMatchObject({ code: 'BROKER_UNREACHABLE' });
    gate.resolve();
    await first;
    expect(await second).toBe('second');
    expect(await window.run(1, 20, async () => 'free')).toBe('free');
  });
});

describe('subscriptions', () => {
  test('drop, and do not grow, when a handler is too slow', async () => {
    const warnings: string[] = [];
    const logger = {
      info() {},
      error() {},
      warn: (_: unknown, message: string) => void warnings.push(message),
    };
    const subscriptions = createSubscriptions(logger);
    const gate = Promise.withResolvers<void>();
    let handled = 0;
    subscriptions.add('t', async () => {
      handled++;
      await gate.promise;
    });
    const payload = new Uint8Array(1024 * 1024);
    for (let index = 0; index < 200; index++)
      subscriptions.dispatch({ topic: 't', payload, retained: false });
    gate.resolve();
    await new Promise((resolve) => setTimeout(resolve, 50));
    // One is being handled while 64 MiB wait.
    expect(handled).toBe(65);
    expect(warnings).toHaveLength(1);
  });

  test.each([
    ['no connection while it listens', false, 'BROKER_UNREACHABLE', 1],
    ['no connection after it closed', true, 'BROKER_UNREACHABLE', 0],
    ['anything else after it closed', true, 'DISK_FULL', 1],
  ] as const)('a handler that fails is logged: %s', async (_what, closesFirst, code, logged) => {
    const warnings: string[] = [];
    const logger = {
      info() {},
      error() {},
      warn: (_: unknown, message: string) => void warnings.push(message),
    };
    const subscriptions = createSubscriptions(logger);
    const gate = Promise.withResolvers<void>();
    subscriptions.add('t', async () => {
      await gate.promise;
      throw new AppError(code, 'It did not work.');
    });
    subscriptions.dispatch({ topic: 't', payload: new Uint8Array(1), retained: false });

    if (closesFirst) subscriptions.clear();
    gate.resolve();
    await new Promise((resolve) => setTimeout(resolve, 5));

    expect(warnings).toHaveLength(logged);
  });
});

describe('a chunk frame', () => {
  test('comes out as it went in', () => {
    const frame = {
      kind: 'data',
      sha256: 'ab'.repeat(32),
      index: 70_000,
      bytes: new Uint8Array([1, 2, 3]),
    } as const;
    const decoded = decodeChunkFrame(encodeChunkFrame(frame));
    expect({ ...decoded, bytes: [...decoded!.bytes] }).toEqual({ ...frame, bytes: [1, 2, 3] });
  });

  test('that is none is refused', () => {
    const right = encodeChunkFrame({
      kind: 'data',
      sha256: 'ab'.repeat(32),
      index: 0,
      bytes: new Uint8Array(10),
    });
    const wrong = [
      right.subarray(0, 37),
      Uint8Array.from([9, ...right.subarray(1)]),
      Uint8Array.from([1, 7, ...right.subarray(2)]),
      new Uint8Array(chunkBytes + 39).fill(1, 0, 1),
    ];
    for (const bytes of wrong) expect(decodeChunkFrame(bytes)).toBeNull();
  });
});
