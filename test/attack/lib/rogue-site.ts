/**
 * A site that joined with a real invitation and then says whatever a test wants. It has what any enrolled site has: a
 * certificate, a signing key, its own topics. Nothing that it sends goes through the product's checks of outgoing messages.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { AgentClient } from '../../../core/api/client.ts';
import type { SiteCredentials } from '../../../core/enrolment/credentials.ts';
import { enrol } from '../../../core/enrolment/enrol.ts';
import { sha256 } from '../../../core/shared/hash.ts';
import type { BlobStore } from '../../../core/store/blob-store.ts';
import { createBlobStore } from '../../../core/store/blobs.ts';
import { createBlobExchange } from '../../../core/transport/blob-exchange.ts';
import { encodeChunkFrame } from '../../../core/transport/chunk-frame.ts';
import { openEnvelope, sealEnvelope } from '../../../core/transport/envelope.ts';
import type { Link } from '../../../core/transport/link.ts';
import {
  type BlobReference,
  chunkBytes,
  coordinatorToSite,
  type DismissedBody,
  type ManifestBody,
  manifestBodies,
  parseManifest,
  type ReceiptBody,
} from '../../../core/transport/messages.ts';
import { connectMqtt } from '../../../core/transport/mqtt-link.ts';
import { createPresence } from '../../../core/transport/presence.ts';
import { coordinatorId, createTopics } from '../../../core/transport/topics.ts';
import { until } from '../../fixtures/federation.ts';

export interface RogueSite extends AsyncDisposable {
  readonly siteId: string;
  readonly name: string;
  readonly credentials: SiteCredentials;
  readonly link: Link;
  readonly blobs: BlobStore;
  /** What the coordinator said of its updates, oldest first. */
  readonly receipts: readonly ReceiptBody[];
  /** Why it is not listened to any more, as the coordinator told it. */
  readonly dismissals: readonly DismissedBody[];
  /** How often its connection was broken. */
  readonly cuts: number;
  /** A signed message on its own topic, of any type and with any body. */
  say(type: string, body: unknown): Promise<void>;
  hello(): Promise<void>;
  readonly newestManifest: ManifestBody | null;
  /** The manifest of a run, once it asks for training. */
  manifestOf(runId: string): Promise<ManifestBody>;
  /** Fetches a blob from the coordinator as a site does. */
  fetch(reference: BlobReference): Promise<Uint8Array>;
  /** Serves these bytes to whoever asks. */
  offer(bytes: Uint8Array): Promise<BlobReference>;
  /** A chunk that nobody asked for. */
  push(digest: string, index: number, bytes: Uint8Array): Promise<void>;
  receiptFor(digest: string): Promise<ReceiptBody>;
  /** Breaks the connection without a goodbye, and stays away. */
  die(): Promise<void>;
}

export interface RogueSiteOptions {
  name: string;
  /** Whether it announces its presence and leaves a last will, as a site should. */
  presence?: boolean;
}

/** Bytes that are named as if they could be fetched. */
export const referenceTo = (bytes: Uint8Array): BlobReference => ({
  sha256: sha256(bytes),
  sizeBytes: bytes.length,
  chunkBytes,
});

export async function enrolRogueSite(
  coordinator: AgentClient,
  { name, presence: hasPresence = true }: RogueSiteOptions,
): Promise<RogueSite> {
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-rogue-'));
  const { invitation } = await coordinator.coordinator.invite.mutate({ siteName: name });
  const keysDir = path.join(folder, 'keys');
  const credentials = await enrol({ invitation, siteName: name, keysDir });
  const { federation, siteId, signer, coordinatorPublicKey, brokerUrl, tls } = credentials;
  const topics = createTopics(federation);
  const keyOf = () => coordinatorPublicKey;
  const expected = { federation, recipient: siteId, sender: coordinatorId, keyOf };
  const presence = hasPresence ? createPresence(federation, signer) : null;
  const link = await connectMqtt({
    ...{ url: brokerUrl, clientId: siteId, tls, waitForFirstConnection: 10_000 },
    ...(presence === null ? {} : { will: presence.will }),
    backoffMs: { first: 100, max: 1_000 },
  });
  presence?.attach(link);
  const blobs = createBlobStore(path.join(folder, 'blobs'));
  const receipts: ReceiptBody[] = [];
  const manifests: ManifestBody[] = [];
  const dismissals: DismissedBody[] = [];
  let cuts = 0;
  link.onStatus((online) => {
    if (!online) cuts += 1;
  });
  const exchange = await createBlobExchange({ link, federation, signer, keyOf, blobs, maySend: () => true });
  await link.subscribe(topics.message(siteId, 'down'), ({ payload }) => {
    const opened = openEnvelope(payload, { ...expected, bodies: coordinatorToSite });
    if (opened.type === 'receipt') receipts.push(opened.body);
    if (opened.type === 'dismissed') dismissals.push(opened.body);
  });
  await link.subscribe(topics.manifest, ({ payload }) => {
    const opened = openEnvelope(payload, { ...expected, bodies: manifestBodies });
    if (opened.type === 'manifest') manifests.push(parseManifest(opened.body));
  });
  const say = (type: string, body: unknown) =>
    link.publish(
      topics.message(siteId, 'up'),
      sealEnvelope({ federation, recipient: coordinatorId, type, body }, signer),
    );

  return {
    ...{ siteId, name, credentials, link, blobs, receipts, dismissals, say },
    get cuts() {
      return cuts;
    },
    get newestManifest() {
      return manifests.at(-1) ?? null;
    },
    hello: () => say('hello', { name, version: '1', baseIds: [] }),
    manifestOf: (runId) =>
      until('the manifest', async () =>
        manifests.findLast((one) => one.runId === runId && one.phase === 'train'),
      ),
    async fetch(reference) {
      await exchange.fetch(reference, coordinatorId);
      return blobs.read(reference.sha256);
    },
    async offer(bytes) {
      await blobs.put(bytes);
      return referenceTo(bytes);
    },
    push: (digest, index, bytes) =>
      link.publish(
        topics.chunks(siteId, 'up'),
        encodeChunkFrame({ kind: 'data', sha256: digest, index, bytes }),
      ),
    receiptFor: (digest) =>
      until('the receipt', async () => receipts.findLast(({ updateSha256 }) => updateSha256 === digest)),
    async die() {
      // No goodbye of the presence either: that is for whoever leaves as one should.
      await link.close();
    },
    async [Symbol.asyncDispose]() {
      await presence?.leave();
      await link.close();
      await exchange.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
