/** Connects a site's state machine to MQTT: manifest in, signed messages out, blobs both ways. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { SitePolicy } from '../config/site-policy.ts';
import { type ErrorReport, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { createBlobExchange } from '../transport/blob-exchange.ts';
import { openEnvelope, sealEnvelope } from '../transport/envelope.ts';
import type { Link, LinkMessage } from '../transport/link.ts';
import {
  type BlobReference,
  boundedLoss,
  coordinatorToSite,
  type DismissedBody,
  type ManifestBody,
  manifestBodies,
  parseManifest,
  parseManifestBlob,
  type ReceiptBody,
} from '../transport/messages.ts';
import { createOutboxRelay } from '../transport/outbox-relay.ts';
import type { Signer } from '../transport/signature.ts';
import { coordinatorId, createTopics } from '../transport/topics.ts';
import type { SitePorts } from './site-node.ts';

export interface SiteConnectionOptions {
  link: Link;
  federation: string;
  /** Signs as this site. */
  signer: Signer;
  coordinatorPublicKey: string;
  name: string;
  version: string;
  /** Ids of the base models that this site holds now. */
  baseIds(): Promise<readonly string[]>;
  /** This site's own, for the coordinator to know; null when it cannot be read. */
  policy(): SitePolicy | null;
  store: Store;
  blobs: BlobStore;
  logger: Logger;
  onManifest(manifest: ManifestBody): void;
  /** One that the coordinator signed and nobody here can read. */
  onUnreadable(error: ErrorReport): void;
  /** @returns whether the update need not be announced again */
  onReceipt(receipt: ReceiptBody): boolean;
  /** The coordinator does not listen to this site for a while. */
  onDismissed?(dismissal: DismissedBody): void;
  /** How often the site says that it is there (ms). */
  helloEveryMs?: number;
}

export interface SiteConnection {
  readonly ports: SitePorts;
  /** Says hello once more: name, base models and policy may have changed. */
  greet(): void;
  /** Subscribes and says hello; call when the state machine is ready for a manifest. */
  open(): Promise<void>;
  close(): Promise<void>;
}

/** The coordinator counts a site as gone that says nothing for three times as long. */
const defaultHelloMs = 30_000;

/** As many as the message may name. */
const maxBaseIds = 100;
const manifestTimeSchema = z.iso.datetime();

const hourMs = 3_600_000;
const startOfHour = () => new Date(Math.floor(Date.now() / hourMs) * hourMs);

export function connectSite(options: SiteConnectionOptions): SiteConnection {
  const { link, federation, signer, store, blobs, logger } = options;
  const siteId = signer.id;
  const topics = createTopics(federation);
  const outboxRelay = createOutboxRelay({ link, store, logger });
  const keyOf = (sender: string) => (sender === coordinatorId ? options.coordinatorPublicKey : null);
  const expected = { federation, recipient: siteId, sender: coordinatorId, keyOf };
  const up = topics.message(siteId, 'up');
  const closers: (() => Promise<void> | void)[] = [() => outboxRelay.close()];
  let awaited = new AbortController();

  const seal = (type: string, body: unknown, id: string = randomUUID(), at = new Date()) =>
    sealEnvelope({ federation, recipient: coordinatorId, type, body, id, at }, signer);

  const exchange = createBlobExchange({
    link,
    federation,
    signer,
    keyOf,
    blobs,
    logger,
    // Only updates that this site announced leave it, and only to the coordinator: never a crop.
    maySend: (peer, sha256) => peer === coordinatorId && store.adapters.get(sha256)?.kind === 'update',
  });

  /** What the coordinator hears of this site with every sign of life. */
  const describe = async () => ({
    name: options.name,
    version: options.version,
    baseIds: (await options.baseIds()).slice(0, maxBaseIds),
    policy: options.policy(),
  });

  function sayHello(): void {
    if (!link.online) return;
    describe()
      .then((body) => link.publish(up, seal('hello', body)))
      .catch((error) => logger.warn({ error }, 'hello not sent'));
  }

  function receiveManifest(message: LinkMessage): void {
    const opened = openEnvelope(message.payload, { ...expected, bodies: manifestBodies });
    // A broker could show an old manifest again: time never goes back.
    const newest = store.settings.get('site.manifest-at', manifestTimeSchema);
    const at = opened.at.toISOString();
    if (newest !== null && at < newest) return;
    store.settings.set('site.manifest-at', at);
    awaited.abort();
    awaited = new AbortController();
    if (opened.type === 'manifest') readManifest(() => parseManifest(opened.body));
    else void fetchManifest(opened.body, awaited.signal);
  }

  function readManifest(parse: () => ManifestBody): void {
    let manifest: ManifestBody;
    try {
      manifest = parse();
    } catch (thrown) {
      logger.warn({ error: thrown }, 'manifest not understood');
      options.onUnreadable(toAppError(thrown).toReport());
      return;
    }
    options.onManifest(manifest);
  }

  /** One that no envelope holds, unless a newer one comes meanwhile; the coordinator says it again when we reconnect. */
  async function fetchManifest(reference: BlobReference, signal: AbortSignal): Promise<void> {
    try {
      await (await exchange).fetch(reference, coordinatorId, { signal });
      const bytes = await blobs.read(reference.sha256);
      if (signal.aborted) return;
      readManifest(() => parseManifestBlob(bytes));
      await collectBlobs(store, blobs, [reference.sha256]);
    } catch (error) {
      if (!signal.aborted) logger.error({ error }, 'manifest not received');
    }
  }

  function receiveMessage(message: LinkMessage): void {
    const opened = openEnvelope(message.payload, { ...expected, bodies: coordinatorToSite });
    if (opened.type === 'ack') {
      outboxRelay.settle({ messageId: opened.body.messageId });
    } else if (opened.type === 'receipt') {
      const { runId, round, updateSha256 } = opened.body;
      if (options.onReceipt(opened.body))
        outboxRelay.settle({ type: 'announce', runId, round, updateSha256 });
    } else if (opened.type === 'dismissed') {
      logger.warn({ ...opened.body }, 'the coordinator does not listen to this site for a while');
      options.onDismissed?.(opened.body);
    }
  }

  return {
    ports: {
      enqueue({ type, body }) {
        const messageId = randomUUID();
        const sent = type === 'announce' ? { ...body, meanLoss: boundedLoss(body.meanLoss) } : body;
        // To the hour: that somebody has withdrawn at this very minute would be closer to who it was.
        const at = type === 'withdrawn' ? startOfHour() : new Date();
        const message = { topic: up, payload: seal(type, sent, messageId, at), messageId, type };
        if (type !== 'announce') return outboxRelay.enqueue(message);
        const { runId, round, update } = body;
        outboxRelay.enqueue({ ...message, runId, round, updateSha256: update.sha256 });
      },
      retractAnnouncement: (runId, round) => outboxRelay.settle({ type: 'announce', runId, round }),
      flush: () => outboxRelay.flush(),
      sendProgress(body) {
        if (!link.online) return;
        const sent = { ...body, loss: boundedLoss(body.loss) };
        link.publish(up, seal('progress', sent)).catch(() => {});
      },
      async fetch(reference, signal) {
        await (await exchange).fetch(reference, coordinatorId, { signal });
      },
    },
    async open() {
      const opened = await exchange;
      closers.unshift(() => opened.close());
      closers.unshift(await link.subscribe(topics.message(siteId, 'down'), receiveMessage));
      closers.unshift(await link.subscribe(topics.manifest, receiveManifest));
      closers.unshift(link.onStatus(sayHello));
      const renewal = setInterval(sayHello, options.helloEveryMs ?? defaultHelloMs).unref();
      closers.unshift(() => clearInterval(renewal));
      sayHello();
    },
    greet: sayHello,
    async close() {
      awaited.abort();
      for (const close of closers) await close();
    },
  };
}
