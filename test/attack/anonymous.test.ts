/** Somebody without a certificate: may ask to join, and nothing else. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generate } from 'mqtt-packet';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fromClientError } from '../../core/api/client.ts';
import { createAuthority, createRequest } from '../../core/enrolment/authority.ts';
import { enrol } from '../../core/enrolment/enrol.ts';
import { createInvitation, parseInvitation } from '../../core/enrolment/invitation.ts';
import { sealEnvelope } from '../../core/transport/envelope.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import { certify, signerOf } from '../contract/test-brokers.ts';
import { until } from '../fixtures/federation.ts';
import {
  connectAs,
  connectPacket,
  inventedRequest,
  lookAround,
  newEnrolmentId,
  openRaw,
  requestTopic,
  type Surroundings,
} from './lib/anonymous-client.ts';
import { holdingsOf, residentBytesOf } from './lib/measures.ts';
import { modestRun, type Scene, startScene } from './lib/scene.ts';

let scene: Scene;
let around: Surroundings;
let folder: string;
beforeAll(async () => {
  scene = await startScene(1);
  // One site is enough here: what it asks of its coordinator is no matter of these tests.
  const { site } = scene.federation.sites[0]!.agent.client;
  await site.setPolicy.mutate({ policy: { ...(await site.policy.query()).policy, minContributors: 1 } });
  around = await lookAround(scene.federation.coordinator.client);
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-anonymous-'));
});
afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** The addresses of somebody with several machines. */
const strangers = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5'];

const runOf = () => ({ ...modestRun(scene.federation), quorum: 1, robust: { rule: 'mean' as const } });

test('hears nothing of a run', async () => {
  const { federation } = around.invitation;
  const topics = createTopics(federation);
  const { sites } = await scene.federation.coordinator.client.coordinator.overview.query();
  const siteId = sites[0]!.id;
  const link = await connectAs(around, newEnrolmentId());
  const heard: string[] = [];
  const filters = [
    ...['#', '+/#', 'anneal/#', '$SYS/#', `$share/all/${topics.manifest}`, topics.manifest],
    ...[topics.everySite.messages, topics.everySite.presence, topics.everySite.chunks],
    ...[topics.message(siteId, 'down'), topics.chunks(siteId, 'down'), topics.everySite.enrolments],
    topics.enrolment('enrol-another', 'reply'),
  ];

  const refusals = await Promise.all(
    filters.map((filter) =>
      link
        .subscribe(filter, ({ topic }) => void heard.push(topic))
        .then(
          () => 'granted',
          (error: Error) => error.message,
        ),
    ),
  );
  await scene.ended(await scene.startRun(runOf()));
  await link.close();

  expect(refusals).not.toContain('granted');
  expect(heard).toEqual([]);
});

test('says nothing that a site or the coordinator hears', async () => {
  const { federation } = around.invitation;
  const topics = createTopics(federation);
  await using observer = await scene.admit({ name: 'Observer' });
  const { sites } = await scene.federation.coordinator.client.coordinator.overview.query();
  const heard: string[] = [];
  await observer.link.subscribe(topics.manifest, ({ topic }) => void heard.push(topic));
  await observer.link.subscribe(
    topics.message(observer.siteId, 'down'),
    ({ topic }) => void heard.push(topic),
  );
  const before = heard.length;
  await scene.newAudit();
  const forged = (type: string) =>
    sealEnvelope({ federation, type, body: {} }, { ...signerOf('anonymous'), id: coordinatorId });
  const tries = [
    { topic: topics.manifest, retain: true },
    { topic: topics.manifest, retain: false },
    { topic: topics.message(observer.siteId, 'down'), retain: false },
    { topic: topics.message(sites[0]!.id, 'up'), retain: false },
    { topic: topics.presence(sites[0]!.id), retain: true },
    { topic: topics.enrolment('enrol-another', 'request'), retain: false },
    { topic: topics.enrolment('enrol-another', 'reply'), retain: false },
    { topic: '$SYS/broker', retain: false },
  ];

  const cut = await Promise.all(
    tries.map(async ({ topic, retain }) => {
      const link = await connectAs(around, newEnrolmentId());
      let cuts = 0;
      link.onStatus((online) => {
        if (!online) cuts += 1;
      });
      await link.publish(topic, forged('manifest'), { retain, timeoutMs: 2_000 }).catch(() => {});
      await link.close();
      return cuts;
    }),
  );

  expect(cut.every((cuts) => cuts > 0)).toBe(true);
  expect(heard.length - before).toBe(0);
  expect(await scene.newAudit()).toEqual([]);
});

test('is nobody else: no client id of a site or of the coordinator, no certificate of another authority', async () => {
  const { sites } = await scene.federation.coordinator.client.coordinator.overview.query();
  const other = await createAuthority(path.join(folder, 'authority'), around.invitation.federation);
  const ids = [coordinatorId, sites[0]!.id, 'somebody'];
  const own = await Promise.all(ids.map((id) => certify(other, id)));

  const outcomes = await Promise.all(
    ids.flatMap((id, index) =>
      [undefined, own[index]!].map((tls) =>
        connectAs(around, id, tls && { cert: tls.cert, key: tls.key }).then(
          (link) => link.close().then(() => 'let in'),
          (error: Error) => error.message,
        ),
      ),
    ),
  );

  expect(outcomes).not.toContain('let in');
});

test('joins with no invitation that was used, has expired, was changed or never existed', async () => {
  const { client } = scene.federation.coordinator;
  const join = (invitation: string, keys: string) =>
    enrol({ invitation, siteName: 'Somebody', keysDir: path.join(folder, keys), timeoutMs: 10_000 }).then(
      () => 'joined',
      (error: unknown) => (fromClientError(error) as { code: string }).code,
    );
  const invite = async (validHours?: number) =>
    (await client.coordinator.invite.mutate({ siteName: 'Once', ...(validHours && { validHours }) }))
      .invitation;
  const used = await invite();
  await join(used, 'first');
  const shortLived = parseInvitation(await invite(0.0001));
  await new Promise((resolve) => setTimeout(resolve, 500));
  const longer = { ...shortLived, expiresAt: new Date(Date.now() + 3_600_000).toISOString() };
  const invented = { ...around.invitation, token: 'A'.repeat(43) };
  const before = holdingsOf(scene.federation.coordinator.dataFolder);

  const outcomes = [
    await join(used, 'second'),
    await join(createInvitation(longer), 'third'),
    await join(createInvitation(invented), 'fourth'),
  ];

  expect(outcomes).toEqual(['INVITATION_USED', 'INVITATION_EXPIRED', 'INVITATION_INVALID']);
  expect(holdingsOf(scene.federation.coordinator.dataFolder).rows).toBe(before.rows);
});

/** Before: kept out for as long as the flood lasted, 20 MB of log in 20 s. Now: in after 5 s, 0.8 MB. */
test('keeps no invited site out by flooding the desk, and leaves nothing behind', async () => {
  const { client, dataFolder } = scene.federation.coordinator;
  const signer = signerOf('anonymous');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const request = await createRequest(privateKey);
  const before = holdingsOf(dataFolder);
  const { invitation } = await client.coordinator.invite.mutate({ siteName: 'Late' });
  const stop = new AbortController();
  let sent = 0;
  const flooder = async (index: number) => {
    while (!stop.signal.aborted) {
      const id = newEnrolmentId();
      const raw = await openRaw(around, strangers[index % strangers.length]).catch(() => null);
      if (raw === null) continue;
      await raw.write(connectPacket(id));
      const payload = Buffer.from(inventedRequest(around, id, signer, request));
      const publish = { cmd: 'publish', topic: requestTopic(around, id), payload } as const;
      const packet = generate({ ...publish, qos: 0, dup: false, retain: false });
      for (let count = 0; count < 200 && !raw.closed && !stop.signal.aborted; count++) {
        await raw.write(packet);
        sent += 1;
      }
      raw[Symbol.dispose]();
    }
  };
  const flooders = Array.from({ length: 40 }, (_, index) => flooder(index));
  await until('the flood', async () => sent > 1_000, 20_000);

  const joined = await enrol({
    invitation,
    siteName: 'Late',
    keysDir: path.join(folder, 'late'),
    timeoutMs: 25_000,
  }).then(
    () => true,
    (error: Error) => error.message,
  );
  stop.abort();
  await Promise.all(flooders);

  const after = holdingsOf(dataFolder);
  expect(joined).toBe(true);
  expect(after.rows - before.rows).toBeLessThan(10);
  expect(after.bytes - before.bytes).toBeLessThan(1_000_000);
});

/** Before: 32 idle connections kept everybody out for two minutes, and again. */
test('holds no connection open to keep others out', async () => {
  const { client } = scene.federation.coordinator;
  const { invitation } = await client.coordinator.invite.mutate({ siteName: 'Patient' });
  // Twice as many as the broker lets enrol at once, and none of them asks for anything.
  const idle = await Promise.all(
    Array.from({ length: 64 }, async (_, index) => {
      const raw = await openRaw(around, strangers[index % strangers.length]).catch(() => null);
      await raw?.write(connectPacket(newEnrolmentId()));
      return raw;
    }),
  );

  const joined = await enrol({
    invitation,
    siteName: 'Patient',
    keysDir: path.join(folder, 'patient'),
    timeoutMs: 20_000,
  }).then(
    () => true,
    (error: Error) => error.message,
  );
  for (const raw of idle) raw?.[Symbol.dispose]();

  expect(joined).toBe(true);
});

test('fills no memory: packets that are too large are cut off at their header', async () => {
  const { pid } = scene.federation.coordinator;
  const hello = connectPacket(newEnrolmentId());
  const header = (type: number, length: number) => {
    const bytes = [type];
    for (let rest = length; rest > 0; rest >>= 7) bytes.push(rest > 127 ? (rest & 127) | 128 : rest);
    return Uint8Array.from(bytes);
  };
  const before = residentBytesOf(pid);
  const accepted: number[] = [];
  for (const start of [[header(0x10, 64 * 2 ** 20)], [hello, header(0x30, 128 * 2 ** 20)]]) {
    for (let index = 0; index < 8; index++) {
      using raw = await openRaw(around);
      for (const bytes of start) await raw.write(bytes);
      const piece = new Uint8Array(64 * 1024);
      for (let sent = 0; sent < 64 && !raw.closed; sent++) await raw.write(piece);
      await until('the end of the connection', async () => raw.closed, 5_000);
      accepted.push(raw.bytesAccepted);
    }
  }
  const grown = before === null ? 0 : residentBytesOf(pid)! - before;

  expect(grown).toBeLessThan(64 * 2 ** 20);
  const overview = await scene.federation.sites[0]!.agent.client.status.query();
  expect(overview.broker.state).toBe('online');
});
