/**
 * A coordinator whose sites joined in good faith, and which then asks for whatever a test wants. It has what any
 * coordinator has: the federation's authority, its signing key and the broker. The product's own parts let sites in and
 * carry messages and files; what a manifest says is made here alone (`manifestFor`).
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { z } from 'zod';
import { createRegistry, issueInvitation } from '../../../core/agent/enrolment-registry.ts';
import { type RunConfig, runConfigSchema } from '../../../core/config/run-config.ts';
import { createAuthority } from '../../../core/enrolment/authority.ts';
import { startEnrolmentDesk } from '../../../core/enrolment/desk.ts';
import { loadOrCreateSigner } from '../../../core/enrolment/key-files.ts';
import type { BaseModel } from '../../../core/models/base-model.ts';
import { type AskedBy, contractHash, contractOf } from '../../../core/policy/contract.ts';
import { hashJson } from '../../../core/shared/hash.ts';
import { openDataFolder } from '../../../core/store/data-folder.ts';
import { openStore } from '../../../core/store/store.ts';
import { getStrategy } from '../../../core/strategy/registry.ts';
import { createRunState } from '../../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../../core/strategy/wire/wire.ts';
import { createBlobExchange } from '../../../core/transport/blob-exchange.ts';
import { startBroker } from '../../../core/transport/broker.ts';
import { openEnvelope, sealEnvelope } from '../../../core/transport/envelope.ts';
import {
  type AnnounceBody,
  type BlobReference,
  type ManifestBody,
  manifestProtocol,
  siteToCoordinator,
  writtenManifest,
} from '../../../core/transport/messages.ts';
import { connectMqtt } from '../../../core/transport/mqtt-link.ts';
import { coordinatorId, createTopics } from '../../../core/transport/topics.ts';
import { until } from '../../fixtures/federation.ts';
import { referenceTo } from './rogue-site.ts';

/** What a run asks for. */
export interface Ask {
  runId: string;
  base: BaseModel;
  settings: Partial<z.input<typeof runConfigSchema>> & Pick<RunConfig, 'classes'>;
  /** Default 0. */
  round?: number;
  /** Default `train`. */
  phase?: ManifestBody['phase'];
  /** File of the state; by default what an honest coordinator would begin with. */
  state?: Uint8Array;
  /** Sites that it says are behind the state: by default as an honest one would in that round, with three sites. */
  contributors?: number | null;
  /** In place of what follows from the rest. */
  change?: Partial<ManifestBody>;
}

/** What a site said, in the order in which it came. */
export interface Said {
  siteId: string;
  type: keyof typeof siteToCoordinator;
  body: { runId?: string; round?: number; reason?: string } & Record<string, unknown>;
}

export interface RogueCoordinator extends AsyncDisposable {
  readonly askedBy: AskedBy;
  readonly said: readonly Said[];
  /** How often a site asked for a piece of a file. */
  readonly requests: number;
  invite(siteName: string): string;
  /** The manifest of an ask, as an honest coordinator would write it but for what the ask says. */
  manifestFor(ask: Ask): Promise<ManifestBody>;
  publish(manifest: ManifestBody): Promise<void>;
  /** Any body in a signed manifest message. @returns the message, to be said again */
  publishRaw(body: unknown): Promise<Uint8Array>;
  /** A message as it was. */
  replay(message: Uint8Array): Promise<void>;
  ask(ask: Ask): Promise<ManifestBody>;
  /** What sites said of a run, of one type. */
  saidOf(runId: string, type?: Said['type']): Said[];
  /** Waits until a site says something of a run. */
  hears(runId: string, type: Said['type'], timeoutMs?: number): Promise<Said>;
  /** Fetches an announced update. */
  fetch(announcement: Said): Promise<Uint8Array>;
}

const federation = 'rogue-federation';

/** With the defaults of new runs; nothing but the schema is checked. */
export function configOf({ base, settings }: Pick<Ask, 'base' | 'settings'>): RunConfig {
  return runConfigSchema.parse({ ...{ baseId: base.id, baseSha256: base.sha256 }, ...settings });
}

/** The state that a run of these settings begins with, as a file. */
export function firstState(ask: Pick<Ask, 'base' | 'settings'>): Uint8Array {
  const config = configOf(ask);
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  return encodeGlobalState(createRunState(config, ask.base), { config, plan, base: ask.base });
}

export async function startRogueCoordinator(): Promise<RogueCoordinator> {
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-rogue-coordinator-'));
  const data = openDataFolder(folder);
  const store = openStore(data.dbFile);
  const authority = await createAuthority(data.keysDir, federation);
  const signer = await loadOrCreateSigner(data.keysDir, coordinatorId);
  const server = await authority.issueServer([]);
  const broker = await startBroker({
    ...{ federation, port: 0, host: '127.0.0.1', mayConnect: () => true },
    tls: { ca: authority.certificate, cert: server.certificate, key: server.key },
  });
  const own = await authority.issueCoordinator();
  const url = `mqtts://127.0.0.1:${broker.port}`;
  const tls = { ca: authority.certificate, cert: own.certificate, key: own.key };
  const link = await connectMqtt({ url, clientId: coordinatorId, tls, waitForFirstConnection: 10_000 });
  const registry = createRegistry(store);
  const desk = await startEnrolmentDesk({
    ...{ link, federation, coordinatorName: 'Rogue', authority, signer, registry },
  });
  const topics = createTopics(federation);
  const keyOf = (siteId: string) => store.sites.get(siteId)?.publicKey ?? null;
  const askedBy = { federation, coordinatorKey: signer.publicKey };
  const said: Said[] = [];
  let requests = 0;
  const exchange = await createBlobExchange({
    ...{ link, federation, signer, keyOf, blobs: data.blobs },
    maySend() {
      requests += 1;
      return true;
    },
  });
  const answer = (siteId: string, type: string, body: unknown) =>
    link.publish(
      topics.message(siteId, 'down'),
      sealEnvelope({ federation, recipient: siteId, type, body }, signer),
    );
  await link.subscribe(topics.everySite.messages, async ({ topic, payload }) => {
    const siteId = topics.siteOf(topic)!;
    const expected = { federation, recipient: coordinatorId, sender: siteId, keyOf };
    const opened = openEnvelope(payload, { ...expected, bodies: siteToCoordinator });
    said.push({ siteId, type: opened.type, body: opened.body as Said['body'] });
    if (opened.type === 'evaluation' || opened.type === 'declined')
      await answer(siteId, 'ack', { messageId: opened.id });
    if (opened.type === 'announce') {
      const { runId, round, update } = opened.body;
      await answer(siteId, 'receipt', { runId, round, updateSha256: update.sha256, accepted: true });
    }
  });

  async function manifestFor(ask: Ask): Promise<ManifestBody> {
    const { runId, base, round = 0, phase = 'train', state = firstState(ask) } = ask;
    const config = configOf(ask);
    await data.blobs.put(state);
    return {
      protocol: manifestProtocol,
      ...{ runId, config, configSha256: hashJson(config) },
      contractSha256: contractHash(contractOf(config, base, askedBy)),
      ...{ phase, round, plan: getStrategy(config.strategy).configureTrain(config, round) },
      state: referenceTo(state),
      contributors: ask.contributors ?? (round === 0 && phase === 'train' ? 0 : 3),
      ...{ frozenBaseDelta: [], participants: null, deadlineAt: null },
      paused: null,
      ...ask.change,
    };
  }

  async function replay(message: Uint8Array): Promise<void> {
    await link.publish(topics.manifest, message, { retain: true });
  }

  async function publishRaw(body: unknown): Promise<Uint8Array> {
    const message = sealEnvelope({ federation, type: 'manifest', body }, signer);
    await replay(message);
    return message;
  }

  const publish = (manifest: ManifestBody) => publishRaw(writtenManifest(manifest)).then(() => {});
  const saidOf = (runId: string, type?: Said['type']) =>
    said.filter((one) => one.body.runId === runId && (type === undefined || one.type === type));

  return {
    ...{ askedBy, said, manifestFor, publish, publishRaw, replay, saidOf },
    get requests() {
      return requests;
    },
    invite(siteName) {
      const terms = { federation, coordinatorName: 'Rogue', brokerUrl: url };
      const trust = { caFingerprint: authority.fingerprint, coordinatorPublicKey: signer.publicKey };
      return issueInvitation(store, { ...terms, ...trust }, siteName, 1).invitation;
    },
    async ask(ask) {
      const manifest = await manifestFor(ask);
      await publish(manifest);
      return manifest;
    },
    hears: (runId, type, timeoutMs = 30_000) =>
      until(`"${type}" from a site`, async () => saidOf(runId, type)[0], timeoutMs),
    async fetch({ siteId, body }) {
      const { update } = body as unknown as AnnounceBody;
      await exchange.fetch(update as BlobReference, siteId);
      return data.blobs.read(update.sha256);
    },
    async [Symbol.asyncDispose]() {
      await desk.close();
      await exchange.close();
      await link.close();
      await broker.close();
      store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export const newRun = (): string => randomUUID();
