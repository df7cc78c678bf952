/** Connects a site's state machine to MQTT: manifest in, signed messages out, blobs both ways. */
import { randomUUID } from 'node:crypto';
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
import { createOwnPosition, type OwnPosition, type Stamp } from '../transport/own-position.ts';
import type { Signer } from '../transport/signature.ts';
import { coordinatorId, createTopics } from '../transport/topics.ts';
import { createLeaveCheck } from './may-leave.ts';
import type { SitePorts } from './site-node.ts';
import { createSiteStanding, type SiteStanding } from './standing.ts';

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
  /** The coordinator asked for an update whose file is damaged here. */
  onUpdateDamaged?(sha256: string): void;
  /** The coordinator does not listen to this site for a while. */
  onDismissed?(dismissal: DismissedBody): void;
  /** After how long a manifest that could not be taken in is tried again (ms). */
  retryManifestMs?: number;
  /** How often the site says that it is there (ms). */
  helloEveryMs?: number;
  /** Of this process, where others sign with it too; its own when absent. */
  own?: OwnPosition;
  /** The store of this site went back in time: nothing may be trained until a person has confirmed it. */
  onRestored?(): void;
  /** The coordinator's store did; called before the manifest that says so is given. */
  onCoordinatorReturned?(manifest: ManifestBody): void;
  /** Another computer uses the keys of this site; `wait`: and this one is the second. */
  onTwin?(twin: 'other' | 'wait'): void;
  /** Something that `standing` says has changed. */
  onStanding?(): void;
  /** The clock of this computer; for tests. */
  now?: () => Date;
}

/** What this site says of the run in progress. */
function runOf(store: Store, siteId: string): ReturnType<Parameters<typeof createOwnPosition>[3]> {
  const run = store.runs.current();
  if (run === null) return null;
  const state = store.roundSites.get(run.id, run.round, siteId)?.status ?? 'none';
  return { id: run.id, round: run.round, state };
}

/** The position of a site's process, for all that it signs. */
export const ownPositionOf = (store: Store, federation: string, signer: Signer): OwnPosition =>
  createOwnPosition(store, federation, signer, () => runOf(store, signer.id));

export interface SiteConnection {
  readonly ports: SitePorts;
  readonly standing: Pick<SiteStanding, 'concerns' | 'clock'>;
  /** Says hello once more: name, base models and policy may have changed. */
  greet(): void;
  /** Subscribes and says hello; call when the state machine is ready for a manifest. */
  open(): Promise<void>;
  close(): Promise<void>;
}

/** The coordinator counts a site as gone that says nothing for three times as long. */
const defaultHelloMs = 30_000;
const defaultRetryMs = 5_000;

/** As many as the message may name. */
const maxBaseIds = 100;

const hourMs = 3_600_000;
const startOfHour = (now: Date) => new Date(Math.floor(now.getTime() / hourMs) * hourMs);

export function connectSite(options: SiteConnectionOptions): SiteConnection {
  const { link, federation, signer, store, blobs, logger } = options;
  const siteId = signer.id;
  const topics = createTopics(federation);
  const { now = () => new Date() } = options;
  const own = options.own ?? ownPositionOf(store, federation, signer);
  const standing = createSiteStanding({
    ...{ store, own, logger, clock: now },
    onRestored: () => options.onRestored?.(),
    onTwin: (twin) => options.onTwin?.(twin),
    onChange: () => options.onStanding?.(),
  });
  const ofRounds: ReadonlySet<string> = new Set(['announce', 'evaluation']);
  const leaves = createLeaveCheck(store);
  const outboxRelay = createOutboxRelay({
    ...{ link, store, logger },
    mayLeave: (message) => (!ofRounds.has(message.type) || standing.mayAnnounce()) && leaves.message(message),
  });
  const keyOf = (sender: string) => (sender === coordinatorId ? options.coordinatorPublicKey : null);
  const expected = { federation, recipient: siteId, sender: coordinatorId, keyOf };
  const up = topics.message(siteId, 'up');
  const closers: (() => Promise<void> | void)[] = [() => outboxRelay.close(), leaves.close];
  let awaited = new AbortController();

  const seal = (
    type: string,
    body: unknown,
    stamp: Stamp | undefined,
    { id = randomUUID(), at = now() }: { id?: string; at?: Date } = {},
  ) => sealEnvelope({ federation, recipient: coordinatorId, type, body, id, at, stamp }, signer);

  const exchange = createBlobExchange({
    link,
    federation,
    signer,
    keyOf,
    blobs,
    logger,
    // Only updates that this site announced leave it, while every consent behind them holds, and only to the coordinator; and
    // what came from there, which it may have lost.
    onDamaged: (sha256) => options.onUpdateDamaged?.(sha256),
    maySend: (peer, sha256) =>
      peer === coordinatorId && ((standing.mayAnnounce() && leaves.update(sha256)) || leaves.shared(sha256)),
    peers: store.peers,
    stamp: standing.hint,
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
      .then((body) => {
        const id = randomUUID();
        const where = standing.hello(id);
        const said = where === null ? body : { ...body, standing: where };
        return link.publish(up, seal('hello', said, standing.stamp(), { id }));
      })
      .catch((error) => logger.warn({ error }, 'hello not sent'));
  }

  /** The coordinator says it once: what cannot be taken in now, for instance on a full disk, is taken in later. */
  function takeManifest(message: LinkMessage): void {
    try {
      receiveManifest(message);
    } catch (error) {
      if (toAppError(error).code === 'MESSAGE_INVALID') throw error;
      logger.warn({ error }, 'manifest not taken in; it is tried again');
      tryAgain(() => takeManifest(message));
    }
  }

  function tryAgain(work: () => void): void {
    const { signal } = awaited;
    const timer = setTimeout(() => {
      if (!signal.aborted) work();
    }, options.retryManifestMs ?? defaultRetryMs);
    timer.unref();
  }

  function receiveManifest(message: LinkMessage): void {
    const opened = openEnvelope(message.payload, { ...expected, bodies: manifestBodies });
    // A broker could show an old manifest again: its place says so, whatever the clocks do.
    const place = standing.manifest(opened);
    if (place === 'older') {
      logger.info({ order: opened.order }, 'an older manifest is left aside');
      return;
    }
    // A newer one makes it pointless to try an older one again.
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
    if (standing.isReturnOpen()) {
      options.onCoordinatorReturned?.(manifest);
      standing.returnTaken();
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
      if (signal.aborted) return;
      logger.error({ error }, 'manifest not received; it is tried again');
      tryAgain(() => void fetchManifest(reference, signal));
    }
  }

  function receiveMessage(message: LinkMessage): void {
    const opened = openEnvelope(message.payload, { ...expected, bodies: coordinatorToSite });
    if (!standing.takes(opened)) {
      logger.info({ type: opened.type }, 'a message from before the coordinator went back is left aside');
      return;
    }
    if (opened.type === 'welcome') {
      if (standing.welcome(opened.body.standing, opened)) sayHello();
      outboxRelay.flush();
    } else if (opened.type === 'ack') {
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
        // To the hour, and with no place among other messages: that somebody has withdrawn at this very minute would be closer
        // to who it was.
        const isPrivate = type === 'withdrawn';
        const about = { id: messageId, at: isPrivate ? startOfHour(now()) : now() };
        const payload = seal(type, sent, isPrivate ? undefined : standing.stamp(), about);
        const message = { topic: up, payload, messageId, type };
        if (type !== 'announce') return outboxRelay.enqueue(message);
        const { runId, round, update } = body;
        outboxRelay.enqueue({ ...message, runId, round, updateSha256: update.sha256 });
      },
      retractAnnouncement: (runId, round) => outboxRelay.settle({ type: 'announce', runId, round }),
      flush: () => outboxRelay.flush(),
      sendProgress(body) {
        if (!link.online) return;
        const sent = { ...body, loss: boundedLoss(body.loss) };
        link.publish(up, seal('progress', sent, standing.hint())).catch(() => {});
      },
      async fetch(reference, signal) {
        await (await exchange).fetch(reference, coordinatorId, { signal });
      },
    },
    standing,
    async open() {
      const opened = await exchange;
      closers.unshift(() => opened.close());
      closers.unshift(await link.subscribe(topics.message(siteId, 'down'), receiveMessage));
      closers.unshift(await link.subscribe(topics.manifest, takeManifest));
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
