/** The three brokers that the contract tests run over, each behind one small interface. */
import { createPrivateKey, generateKeyPairSync, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp, createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { type Authority, createAuthority, createRequest, serialFor } from '../../core/enrolment/authority.ts';
import { type Child, startChild } from '../../core/process/child-process.ts';
import { type Broker, type BrokerOptions, startBroker } from '../../core/transport/broker.ts';
import type { Link } from '../../core/transport/link.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { connectMqtt, type Will } from '../../core/transport/mqtt-link.ts';
import { createSigner, type Signer } from '../../core/transport/signature.ts';
import { coordinatorId, createTopics, mayPublish, maySubscribe } from '../../core/transport/topics.ts';
import { mosquittoConfiguration } from './mosquitto.ts';

export const federation = 'test-federation';
export const mosquittoBinary = [
  '/usr/sbin/mosquitto',
  '/usr/local/sbin/mosquitto',
  '/opt/homebrew/sbin/mosquitto',
].find((file) => existsSync(file));

export interface TestBroker {
  /** Connects as a site, or as `coordinator`. */
  connect(id: string, options?: { will?: () => Will }): Promise<Link>;
  /** As `kill -9`: connections break, everything in memory is lost. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** Breaks one client's connection without a goodbye; undefined where the broker can't be told. */
  drop?(id: string): void;
  /** Where TLS brokers listen. */
  readonly url: string;
  readonly enrolmentUrl: string;
  readonly authority: Authority;
  close(): Promise<void>;
}

export type BrokerKind = 'memory' | 'aedes' | 'mosquitto';

/** Kinds that can run here. On CI a missing Mosquitto is an error. */
export function brokerKinds(...wanted: BrokerKind[]): BrokerKind[] {
  if (mosquittoBinary !== undefined) return wanted;
  if (process.env['CI'] === 'true') throw new Error('Mosquitto is not installed, and CI must test with it');
  console.warn('Mosquitto is not installed: its part of the contract tests is skipped.');
  return wanted.filter((kind) => kind !== 'mosquitto');
}

export async function startTestBroker(
  kind: BrokerKind,
  options: Partial<Pick<BrokerOptions, 'limits' | 'mayConnect'>> = {},
): Promise<TestBroker> {
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-broker-'));
  const authority = await createAuthority(folder, federation);
  const broker =
    kind === 'memory'
      ? startMemory(authority)
      : kind === 'aedes'
        ? await startAedes(authority, options)
        : await startMosquitto(folder, authority);
  return {
    ...broker,
    authority,
    async close() {
      await broker.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

type Started = Omit<TestBroker, 'authority'>;

function startMemory(_authority: Authority): Started {
  const topics = createTopics(federation);
  const identity = (id: string) =>
    id === coordinatorId ? ({ kind: 'coordinator' } as const) : ({ kind: 'site', siteId: id } as const);
  const broker = createMemoryBroker({
    mayPublish: (id, topic) =>
      mayPublish(topics, identity(id), topic, false) || mayPublish(topics, identity(id), topic, true),
    maySubscribe: (id, filter) => maySubscribe(topics, identity(id), filter),
  });
  const links = new Map<string, ReturnType<typeof broker.connect>>();
  return {
    url: '',
    enrolmentUrl: '',
    async connect(clientId, options = {}) {
      const link = broker.connect({ clientId, ...options });
      links.set(clientId, link);
      return link;
    },
    drop: (id) => links.get(id)?.interrupt(),
    kill: async () => broker.stop(),
    restart: async () => broker.start(),
    close: async () => broker.stop(),
  };
}

async function startAedes(
  authority: Authority,
  options: Partial<Pick<BrokerOptions, 'limits' | 'mayConnect'>>,
): Promise<Started> {
  const server = await authority.issueServer([]);
  const start = (port: number): Promise<Broker> =>
    startBroker({
      federation,
      port,
      host: '127.0.0.1',
      tls: { ca: authority.certificate, cert: server.certificate, key: server.key },
      mayConnect: () => true,
      ...options,
    });
  let broker = await start(await freePort());
  const { port } = broker;
  const url = `mqtts://127.0.0.1:${port}`;
  return {
    url,
    enrolmentUrl: url,
    connect: (id, linkOptions) => connectTls(authority, url, id, linkOptions),
    drop: (id) => broker.disconnect(id),
    kill: () => broker.close(),
    async restart() {
      broker = await start(port);
    },
    close: () => broker.close(),
  };
}

async function startMosquitto(folder: string, authority: Authority): Promise<Started> {
  const [port, enrolmentPort] = [await freePort(), await freePort()];
  const server = await authority.issueServer([]);
  const file = (name: string) => path.join(folder, name);
  const { configuration, memberAcl, enrolmentAcl } = mosquittoConfiguration({
    federation,
    host: '127.0.0.1',
    port,
    enrolmentPort,
    files: {
      authority: file('authority.pem'),
      certificate: file('server.pem'),
      key: file('server-key.pem'),
      memberAcl: file('member.acl'),
      enrolmentAcl: file('enrolment.acl'),
    },
  });
  await writeFile(file('server.pem'), `${server.certificate.trim()}\n${authority.certificate}`);
  await writeFile(file('server-key.pem'), server.key);
  await writeFile(file('member.acl'), memberAcl);
  await writeFile(file('enrolment.acl'), enrolmentAcl);
  // Started as root, Mosquitto would change to a user who may not read this folder.
  await writeFile(file('mosquitto.conf'), `user ${userInfo().username}\n${configuration}`);
  let child: Child;
  const start = async () => {
    const said: string[] = [];
    const own = startChild(mosquittoBinary!, ['-c', file('mosquitto.conf')], {
      onErrorLine: (line) => said.push(line),
    });
    child = own;
    await until(async () => {
      if (!own.isRunning) throw new Error(`Mosquitto ended: ${said.join('\n')}`);
      return isListening(port);
    });
  };
  const kill = () => child.kill();
  await start();
  const url = `mqtts://127.0.0.1:${port}`;
  return {
    url,
    enrolmentUrl: `mqtts://127.0.0.1:${enrolmentPort}`,
    connect: (id, linkOptions) => connectTls(authority, url, id, linkOptions),
    kill,
    restart: start,
    close: kill,
  };
}

/** A client certificate for an id, as enrolment would give it. */
export async function certify(
  authority: Authority,
  id: string,
): Promise<{ ca: string; cert: string; key: string }> {
  if (id === coordinatorId) {
    const { certificate, key } = await authority.issueCoordinator();
    return { ca: authority.certificate, cert: certificate, key };
  }
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const serial = serialFor(id, publicKey.export({ type: 'spki', format: 'der' }));
  const cert = await authority.issueSite(id, await createRequest(privateKey), serial);
  return {
    ca: authority.certificate,
    cert,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

async function connectTls(
  authority: Authority,
  url: string,
  id: string,
  options: { will?: () => Will } = {},
): Promise<Link> {
  return connectMqtt({
    url,
    clientId: id,
    tls: await certify(authority, id),
    waitForFirstConnection: 10_000,
    backoffMs: { first: 50, max: 300 },
    ...options,
  });
}

/** A signer for an id, the same one for the same id. */
const signers = new Map<string, Signer>();
export function signerOf(id: string): Signer {
  let signer = signers.get(id);
  if (signer === undefined) {
    const { privateKey } = generateKeyPairSync('ed25519');
    signer = createSigner(
      id,
      createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string),
    );
    signers.set(id, signer);
  }
  return signer;
}

/**
 * A port for a server that starts a moment later. Taken below the range from which Linux draws the local ports of
 * outgoing connections: a free one of that range may be a connection's of another test file by then.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise<boolean>((resolve) => {
    const socket = connectTcp(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** Waits until the condition holds. @throws Error after 15 s */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
