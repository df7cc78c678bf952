/** Joining a federation over both brokers, and every way to be refused. */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadCredentials } from '../../core/enrolment/credentials.ts';
import { type EnrolmentDesk, type EnrolmentRegistry, startEnrolmentDesk } from '../../core/enrolment/desk.ts';
import { enrol } from '../../core/enrolment/enrol.ts';
import { createInvitation, createToken, hashToken } from '../../core/enrolment/invitation.ts';
import { openEnvelope, sealEnvelope } from '../../core/transport/envelope.ts';
import type { Link, LinkMessage } from '../../core/transport/link.ts';
import { coordinatorToSite, siteToCoordinator } from '../../core/transport/messages.ts';
import { connectMqtt } from '../../core/transport/mqtt-link.ts';
import { coordinatorId, createTopics } from '../../core/transport/topics.ts';
import {
  brokerKinds,
  federation,
  freePort,
  signerOf,
  startTestBroker,
  type TestBroker,
  until,
} from './test-brokers.ts';

const topics = createTopics(federation);

type Invited = NonNullable<ReturnType<EnrolmentRegistry['findInvitation']>>;
type Enrolled = Parameters<EnrolmentRegistry['enrol']>[0] & { revokedAt: string | null };

/** A registry that behaves as the store's tables do. */
function createRegistry() {
  const invitations = new Map<string, Invited>();
  const sites = new Map<string, Enrolled>();
  const registry: EnrolmentRegistry = {
    findInvitation: (hash) => invitations.get(hash) ?? null,
    findSite: (id) => sites.get(id) ?? null,
    enrol(site, invitationId) {
      const invitation = [...invitations.values()].find(({ id }) => id === invitationId)!;
      if (invitation.usedAt !== null) return false;
      invitation.usedAt = new Date().toISOString();
      invitation.siteId = site.id;
      sites.set(site.id, { ...site, revokedAt: null });
      return true;
    },
  };
  return { registry, invitations, sites };
}

describe.each(brokerKinds('aedes', 'mosquitto'))('enrolment over %s', (kind) => {
  let broker: TestBroker;
  let folder: string;
  let coordinator: Link;
  let desk: EnrolmentDesk;
  let state: ReturnType<typeof createRegistry>;

  beforeEach(async () => {
    state = createRegistry();
    broker = await startTestBroker(kind, {
      mayConnect: ({ siteId, certificateSerial }) =>
        state.sites.get(siteId)?.certificateSerial === certificateSerial,
    });
    folder = await mkdtemp(path.join(tmpdir(), 'anneal-enrol-'));
    coordinator = await broker.connect(coordinatorId);
    desk = await openDesk();
  });
  afterEach(async () => {
    await desk.close();
    await coordinator.close();
    await broker.close();
    await rm(folder, { recursive: true, force: true });
  });

  const openDesk = () =>
    startEnrolmentDesk({
      link: coordinator,
      federation,
      coordinatorName: 'Universität',
      signer: signerOf(coordinatorId),
      authority: broker.authority,
      registry: state.registry,
    });

  function invite(
    changes: { siteName?: string; expiresInMs?: number; token?: string; caFingerprint?: string } = {},
  ) {
    const token = changes.token ?? createToken();
    const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
    const atDesk = new Date(Date.now() + (changes.expiresInMs ?? 3_600_000)).toISOString();
    const id = `invitation-${state.invitations.size}`;
    state.invitations.set(hashToken(token), {
      id,
      siteName: changes.siteName ?? 'Klinik Nord',
      expiresAt: atDesk,
      usedAt: null,
      siteId: null,
    });
    const text = createInvitation({
      federation,
      coordinatorName: 'Universität',
      brokerUrl: broker.url,
      enrolmentUrl: broker.enrolmentUrl,
      caFingerprint: changes.caFingerprint ?? broker.authority.fingerprint,
      coordinatorPublicKey: signerOf(coordinatorId).publicKey,
      token,
      expiresAt,
    });
    return { text, token };
  }

  const join = (invitation: string, site = 'one', timeoutMs = 10_000) =>
    enrol({ invitation, siteName: 'Our own name', keysDir: path.join(folder, site), timeoutMs });

  test('gives a site its identity, with which it then speaks', async () => {
    const { text } = invite();

    const credentials = await join(text);

    expect(credentials).toMatchObject({
      siteName: 'Klinik Nord',
      coordinatorName: 'Universität',
      federation,
    });
    expect(credentials.siteId).toMatch(/^klinik-nord-[a-z0-9]{6}$/);
    expect(state.sites.get(credentials.siteId)!.publicKey).toBe(credentials.signer.publicKey);
    const site = await connectMqtt({
      url: credentials.brokerUrl,
      clientId: credentials.siteId,
      tls: credentials.tls,
      waitForFirstConnection: 5_000,
    });
    const heard: string[] = [];
    await coordinator.subscribe(topics.everySite.messages, ({ topic, payload }) => {
      const opened = openEnvelope(payload, {
        federation,
        recipient: coordinatorId,
        sender: topics.siteOf(topic)!,
        keyOf: (id) => state.sites.get(id)?.publicKey ?? null,
        bodies: siteToCoordinator,
      });
      if (opened.type === 'hello') heard.push(opened.body.name);
    });
    const hello = { name: 'Klinik Nord', version: '0.1.0', baseIds: [] };
    const envelope = { federation, recipient: coordinatorId, type: 'hello', body: hello };
    await site.publish(topics.message(credentials.siteId, 'up'), sealEnvelope(envelope, credentials.signer));
    await until(() => heard.length > 0);
    expect(heard).toEqual(['Klinik Nord']);
    await site.close();
    // After a restart it is all there.
    const again = await loadCredentials(path.join(folder, 'one'));
    expect(again?.siteId).toBe(credentials.siteId);
    expect(again?.signer.publicKey).toBe(credentials.signer.publicKey);
  });

  test('keeps keys to their owner, and the token off the wire and the disk', async () => {
    const { text, token } = invite();
    const seen: LinkMessage[] = [];
    await coordinator.subscribe(topics.everySite.enrolments, (message) => void seen.push(message));

    await join(text);

    expect(seen.length).toBeGreaterThan(0);
    for (const { payload } of seen) expect(Buffer.from(payload).toString()).not.toContain(token);
    const keysDir = path.join(folder, 'one');
    const files = await readdir(keysDir);
    expect(files.sort()).toEqual(['membership.json', 'signing-key.pem', 'tls-key.pem']);
    for (const file of files) {
      expect((await stat(path.join(keysDir, file))).mode & 0o777).toBe(0o600);
      expect(await readFile(path.join(keysDir, file), 'utf8')).not.toContain(token);
    }
  });

  test('an invitation works once, and a joined site does not join again', async () => {
    const { text } = invite();
    await join(text);

    await expect(join(text, 'two')).rejects.toMatchObject({ code: 'INVITATION_USED' });
    await expect(join(invite().text)).rejects.toMatchObject({ code: 'ALREADY_JOINED' });
    expect(state.sites.size).toBe(1);
  });

  test('a site whose answer was lost joins with the same invitation and gets the same certificate', async () => {
    const { text } = invite();
    const first = await join(text);
    // As if the process had been killed before the answer was written.
    await rm(path.join(folder, 'one', 'membership.json'));
    await desk.close();
    desk = await openDesk();

    const second = await join(text);

    expect(second.siteId).toBe(first.siteId);
    expect(state.sites.size).toBe(1);
    const site = await connectMqtt({
      url: second.brokerUrl,
      clientId: second.siteId,
      tls: second.tls,
      waitForFirstConnection: 5_000,
    });
    await site.close();
  });

  test('a revoked site does not come back with its old invitation', async () => {
    const { text } = invite();
    const first = await join(text);
    state.sites.get(first.siteId)!.revokedAt = new Date().toISOString();
    await rm(path.join(folder, 'one', 'membership.json'));

    await expect(join(text)).rejects.toMatchObject({ code: 'INVITATION_USED' });
  });

  test('refuses what has expired and what nobody issued', async () => {
    const expired = invite({ expiresInMs: -1000 });
    const { text, token } = invite();
    state.invitations.delete(hashToken(token));

    await expect(join(expired.text)).rejects.toMatchObject({ code: 'INVITATION_EXPIRED' });
    await expect(join(text)).rejects.toMatchObject({ code: 'INVITATION_INVALID' });
    expect(state.sites.size).toBe(0);
    expect(await loadCredentials(path.join(folder, 'one'))).toBeNull();
  });

  test('does not speak to a broker of another authority', async () => {
    const { text } = invite({ caFingerprint: 'ab'.repeat(32) });
    const seen: LinkMessage[] = [];
    await coordinator.subscribe(topics.everySite.enrolments, (message) => void seen.push(message));

    await expect(join(text)).rejects.toMatchObject({ code: 'BROKER_REFUSED' });
    expect(seen).toEqual([]);
  });

  test('says so when the coordinator does not answer, and drops answers that it did not sign', async () => {
    await desk.close();
    const unsubscribe = await coordinator.subscribe(topics.everySite.enrolments, async ({ topic }) => {
      const id = topics.enrolmentOf(topic)!;
      const answer = { federation, recipient: id, type: 'refused', body: { code: 'INVITATION_USED' } };
      const forged = sealEnvelope(answer, { ...signerOf('site-a'), id: coordinatorId });
      await coordinator.publish(topics.enrolment(id, 'reply'), forged);
    });

    await expect(join(invite().text, 'one', 1_500)).rejects.toMatchObject({ code: 'BROKER_UNREACHABLE' });
    await unsubscribe();
  });

  test('says so when no broker is there', async () => {
    const port = await freePort();
    const away = invitationFor(`mqtts://127.0.0.1:${port}`);

    await expect(join(away, 'one', 1_000)).rejects.toMatchObject({ code: 'BROKER_UNREACHABLE' });
  });

  function invitationFor(brokerUrl: string): string {
    return createInvitation({
      federation,
      coordinatorName: 'Universität',
      brokerUrl,
      caFingerprint: broker.authority.fingerprint,
      coordinatorPublicKey: signerOf(coordinatorId).publicKey,
      token: createToken(),
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
    });
  }

  test('without a certificate nothing but enrolling is possible', async () => {
    const stranger = await connectMqtt({
      url: broker.enrolmentUrl,
      clientId: 'enrol-stranger',
      tls: { ca: broker.authority.certificate },
      waitForFirstConnection: 5_000,
      backoffMs: { first: 50, max: 100 },
    });
    const heard: LinkMessage[] = [];
    const overheard: LinkMessage[] = [];
    await coordinator.subscribe(topics.everySite.messages, (message) => void heard.push(message));
    await coordinator.subscribe(topics.everySite.enrolments, (message) => void heard.push(message));
    for (const filter of [topics.manifest, '#', 'anneal/#', topics.enrolment('enrol-other', 'reply')]) {
      await stranger.subscribe(filter, (message) => void overheard.push(message)).catch(() => {});
    }
    await coordinator.publish(topics.manifest, Buffer.from('manifest'), { retain: true });
    await coordinator.publish(topics.enrolment('enrol-other', 'reply'), Buffer.from('for another'));

    for (const topic of [topics.message('site-a', 'up'), topics.enrolment('enrol-other', 'request')]) {
      await stranger.publish(topic, Buffer.from('forged')).catch(() => {});
      await until(() => stranger.online);
    }
    await stranger.publish(
      topics.enrolment('enrol-stranger', 'request'),
      Buffer.from('allowed, but nonsense'),
    );
    await until(() => heard.length > 0);

    expect(heard.map((message) => message.topic)).toEqual([topics.enrolment('enrol-stranger', 'request')]);
    expect(overheard).toEqual([]);
    await stranger.close();
  });
});

test('an answer of the coordinator is nothing that a site would take for an order', () => {
  const bytes = sealEnvelope(
    { federation, recipient: 'site-a', type: 'enrolled', body: {} },
    signerOf(coordinatorId),
  );
  expect(() =>
    openEnvelope(bytes, {
      federation,
      recipient: 'site-a',
      keyOf: () => signerOf(coordinatorId).publicKey,
      bodies: coordinatorToSite,
    }),
  ).toThrow(/unexpected type/);
});
