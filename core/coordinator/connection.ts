/** Connects the coordinator to MQTT: its manifest out, the sites' signed messages in, blobs both ways. */
import type { z } from 'zod';
import type { SitePolicy } from '../config/site-policy.ts';
import { AppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import type { Logger } from '../shared/logger.ts';
import { createSerialQueue } from '../shared/serial.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { type BlobExchange, createBlobExchange } from '../transport/blob-exchange.ts';
import { createConcurrencyLimiter } from '../transport/concurrency-limiter.ts';
import { maxEnvelopeBytes, openIfValid, sealEnvelope } from '../transport/envelope.ts';
import type { Link, LinkMessage } from '../transport/link.ts';
import {
  chunkBytes,
  type DeclinedBody,
  type ManifestBody,
  maxManifestBytes,
  siteToCoordinator,
  writtenManifest,
} from '../transport/messages.ts';
import { createOwnPosition, type Stamp } from '../transport/own-position.ts';
import { watchPresence } from '../transport/presence.ts';
import { createNewestHeard, createReplayGuard } from '../transport/replay-guard.ts';
import type { Signer } from '../transport/signature.ts';
import { createTopics } from '../transport/topics.ts';
import { createAdmission, type Dismissal } from './admission.ts';
import { createAttendance } from './attendance.ts';
import type { CoordinatorInbox } from './coordinator.ts';
import type { RunPorts } from './run-engine.ts';
import type { BudgetLimits, Fault } from './sender-budget.ts';
import { type CoordinatorStanding, createCoordinatorStanding, type Standing } from './standing.ts';

export interface CoordinatorConnectionOptions {
  link: Link;
  federation: string;
  coordinatorName: string;
  version: string;
  /** Signs as `coordinator`. */
  signer: Signer;
  store: Store;
  blobs: BlobStore;
  logger: Logger;
  onProgress(
    siteId: string,
    progress: { runId: string; round: number; step: number; steps: number; loss: number | null },
  ): void;
  /** Cuts the connection of a site that is kept out, where the broker can. */
  disconnect?(siteId: string): void;
  /** What a site may do wrong before it is kept out, and for how long (ms). */
  budget?: Partial<BudgetLimits>;
  dismissalMs?: number;
  /** For how long a site counts as online after the last thing it said (ms); Infinity: until its connection ends. */
  signOfLifeMs?: number;
  /** What people see of where sites stand has changed. */
  onStanding?(): void;
  /** The clock of this computer; for tests. */
  now?: () => Date;
}

/** What this coordinator says of the run in progress. */
function runOf(store: Store) {
  const run = store.runs.current();
  return run === null ? null : { id: run.id, round: run.round, state: run.status };
}

export interface CoordinatorConnection {
  readonly ports: RunPorts;
  readonly standing: Pick<CoordinatorStanding, 'concernsOf' | 'ownClock'>;
  open(inbox: CoordinatorInbox): Promise<void>;
  close(): Promise<void>;
}

/** Settings key: the blob that holds the newest large manifest, for the view `blob_references`. */
const largeManifestKey = 'coordinator.manifest';

/** More than all other fields of an envelope take. */
const envelopeFieldsBytes = 2048;

/** Three times as long as sites take from one hello to the next. */
const defaultSignOfLifeMs = 90_000;

/** So that the reason is there before the connection ends. */
const disconnectAfterMs = 250;

/** A site that announced an update and does not send it makes way for others, and is asked again. */
const giveUpMs = 60_000;

/** Sites whose updates are pulled at the same time; keeps the broker's memory bounded (mqtt measurements). */
const grantedSites = 8;

export function connectCoordinator(options: CoordinatorConnectionOptions): CoordinatorConnection {
  const { link, federation, signer, store, blobs, logger } = options;
  const topics = createTopics(federation);
  const { now = () => new Date() } = options;
  const own = createOwnPosition(store, federation, signer, () => runOf(store));
  const standing = createCoordinatorStanding({
    ...{ store, own, logger },
    onReturned: () => {
      // Sites leave aside what came before this; what they answer to it says what this side has lost.
      inbox?.connected();
    },
    onChange: () => options.onStanding?.(),
  });
  const replays = createReplayGuard({ peers: store.peers });
  const heard = createNewestHeard(store.peers);
  /** Declines that are being recorded, by message. */
  const declining = new Map<string, Promise<boolean>>();
  const grants = createConcurrencyLimiter(grantedSites);
  const publishing = createSerialQueue();
  let inbox: CoordinatorInbox | null = null;
  /** From then on sites can be heard. */
  let isOpen = false;
  /** Hash of the file that the manifest names when it is too large for an envelope. */
  let largeManifest = store.settings.get(largeManifestKey, sha256Schema);
  const closers: (() => Promise<void> | void)[] = [];

  const { budget, dismissalMs, signOfLifeMs = defaultSignOfLifeMs } = options;
  const admission = createAdmission({ store, logger, budget, dismissalMs, onDismissed });
  const { keyOf } = admission;
  const attendance = createAttendance({
    sites: store.sites,
    signOfLifeMs,
    isListening: () => isOpen && link.online,
    onChange: () => inbox?.sitesChanged(),
  });
  closers.push(() => attendance.close());
  const fault = (siteId: string, kind: Fault, what: string) =>
    void admission
      .fault(siteId, kind, what)
      .catch((error) => logger.error({ error, siteId }, 'fault not counted'));

  // Only made when the coordinator is ready: before that it would say of every blob that it has none.
  const opening = Promise.withResolvers<BlobExchange>();
  const openExchange = () =>
    createBlobExchange({
      link,
      federation,
      signer,
      keyOf,
      blobs,
      logger,
      // A site gets global states of the run in progress; never another site's update.
      maySend: (_peer, sha256) => sha256 === largeManifest || (inbox?.offers(sha256) ?? null),
      onDamaged: (sha256) => inbox?.stateDamaged(sha256),
      onSent: (_peer, sha256, sizeBytes) => inbox?.bytesServed(sha256, sizeBytes),
      onReceived: (_peer, _sha256, sizeBytes) => inbox?.bytesReceived(sizeBytes),
      onFault: (peer, kind) => fault(peer, kind, 'chunks'),
      stamp: own.hint,
      peers: store.peers,
    });

  /** @param stamp a new place, which is written, unless nobody relies on the message */
  const send = (siteId: string, type: string, body: unknown, stamp: Stamp = own.stamp()) =>
    link.publish(
      topics.message(siteId, 'down'),
      sealEnvelope({ federation, recipient: siteId, type, body, at: now(), stamp }, signer),
    );

  async function receive(message: LinkMessage): Promise<void> {
    const siteId = topics.siteOf(message.topic);
    if (siteId === null || !(await admission.hears(siteId))) return;
    const opened = openIfValid(message.payload, {
      federation,
      recipient: signer.id,
      sender: siteId,
      keyOf,
      bodies: siteToCoordinator,
    });
    if (opened === null) return fault(siteId, 'message', 'is none');
    const receivedAt = now();
    const isNew = replays.accept(opened);
    // What was said earlier may have been held back on the way: it says nothing of now.
    const isNow = isNew && heard.isNewest(opened);
    if (opened.type === 'hello') return greet(siteId, opened, { isNew, isNow, receivedAt });
    if (!standing.takes(siteId, opened.type, opened)) {
      // Said in an earlier life of the site's store: nobody there means it any more, so it need not be said again.
      if (opened.type === 'declined') await acknowledge(siteId, opened.id);
      return;
    }
    if (isNow) attendance.alive(siteId);
    switch (opened.type) {
      case 'progress':
        if (!isNow) return;
        options.onProgress(siteId, opened.body);
        await inbox?.received(siteId, opened);
        return;
      // What a site repeats until it is answered has effects that repeating does not change.
      case 'announce':
        await inbox?.received(siteId, opened);
        return;
      // An answer says that it is in the store: what could not be dealt with gets none, and the site says it again.
      case 'evaluation':
        if (await inbox?.received(siteId, opened)) await acknowledge(siteId, opened.id);
        return;
      // Also one that waited for days at the site: what it says holds for good.
      case 'withdrawn':
        if (inbox === null) return;
        await inbox.withdrawn(siteId, opened.body);
        return acknowledge(siteId, opened.id);
      case 'declined':
        if (await declined(siteId, opened, isNew)) await acknowledge(siteId, opened.id);
    }
  }

  type Hello = Standing & { body: z.output<typeof siteToCoordinator.hello> };

  async function greet(
    siteId: string,
    hello: Hello,
    { isNew, isNow, receivedAt }: { isNew: boolean; isNow: boolean; receivedAt: Date },
  ): Promise<void> {
    const { body } = hello;
    // Answered in any case: a site whose store went back says what was said before and has to hear of it, and one whose clock is
    // wrong learns to give places. Of an old one nothing else comes.
    const answer = standing.greet(siteId, { ...hello, isNew, receivedAt }, body.standing);
    if (isNow && answer.twin !== 'wait') {
      attendance.alive(siteId);
      recordPolicy(siteId, body.policy);
      store.sites.touchLastSeen(siteId);
    }
    const { coordinatorName, version } = options;
    const stamp = { ...own.hint(), position: own.statement() };
    await send(siteId, 'welcome', { coordinatorName, version, standing: answer }, stamp);
  }

  const acknowledge = (siteId: string, messageId: string) => send(siteId, 'ack', { messageId });

  /** Taken once: said again later it would hide that the site has changed its mind. @returns whether it is taken */
  async function declined(
    siteId: string,
    message: { id: string; sender: string; type: 'declined'; body: DeclinedBody },
    isNew: boolean,
  ): Promise<boolean> {
    const key = `${siteId} ${message.id}`;
    if (!isNew) return (await declining.get(key)) ?? true;
    const taking = (async () => {
      let isTaken = false;
      try {
        isTaken = (await inbox?.received(siteId, message)) ?? false;
      } finally {
        if (!isTaken) replays.forget(message);
        declining.delete(key);
      }
      return isTaken;
    })();
    declining.set(key, taking);
    return taking;
  }

  function recordPolicy(siteId: string, policy: SitePolicy | null): void {
    const known = store.sites.get(siteId);
    if (known === null || canonicalJson(known.policy) === canonicalJson(policy)) return;
    store.sites.setPolicy(siteId, policy);
    inbox?.sitesChanged();
  }

  function receivePresence(siteId: string, isPresent: boolean): void {
    // Heard of sites that are kept out, too: a broker that is not ours leaves them connected.
    admission.hears(siteId).catch((error) => logger.error({ error, siteId }, 'message not counted'));
    attendance.present(siteId, isPresent);
  }

  function onDismissed(siteId: string, dismissal: Dismissal): void {
    inbox?.dismissed(siteId);
    inbox?.sitesChanged();
    const cut = () => void setTimeout(() => options.disconnect?.(siteId), disconnectAfterMs).unref();
    send(siteId, 'dismissed', dismissal)
      .catch((error) => logger.warn({ error, siteId }, 'dismissal not sent'))
      .finally(cut);
  }

  async function publishManifest(): Promise<void> {
    const manifest = inbox?.manifest() ?? null;
    if (manifest === null || !link.online) return;
    const before = largeManifest;
    const { file, ...message } = await manifestMessage(manifest);
    if (file === null) store.settings.remove(largeManifestKey);
    else if (file !== before) store.settings.set(largeManifestKey, file);
    largeManifest = file;
    try {
      await link.publish(
        topics.manifest,
        sealEnvelope({ federation, ...message, at: now(), stamp: own.stamp() }, signer),
        { retain: true },
      );
    } finally {
      if (before !== null && before !== file) await collectBlobs(store, blobs, [before]);
    }
  }

  /** What an envelope cannot hold travels as a blob, `file`. @throws AppError MESSAGE_INVALID */
  async function manifestMessage(
    body: ManifestBody,
  ): Promise<{ type: string; body: unknown; file: string | null }> {
    const written = writtenManifest(body);
    const bytes = Buffer.from(canonicalJson(written));
    if (bytes.length <= maxEnvelopeBytes - envelopeFieldsBytes)
      return { type: 'manifest', body: written, file: null };
    if (bytes.length > maxManifestBytes) {
      const [size, limit] = [bytes.length, maxManifestBytes].map((count) => (count / 2 ** 20).toFixed(1));
      const text = `The manifest of this run takes ${size} MiB; the protocol allows ${limit} MiB.`;
      const action = 'Start a run with fewer or shorter class, module and site names.';
      throw new AppError('MESSAGE_INVALID', text, { action });
    }
    const file = await blobs.put(bytes);
    return { type: 'manifest-blob', body: { sha256: file, sizeBytes: bytes.length, chunkBytes }, file };
  }

  return {
    ports: {
      // In order, and always the newest: a manifest that waits behind another says what holds when it is sent.
      publishManifest: () => publishing.run(publishManifest),
      sendReceipt: (siteId, receipt) => send(siteId, 'receipt', receipt),
      async pull(siteId, reference, signal) {
        const fetching = { signal, giveUpMs };
        await grants.run(async () => (await opening.promise).fetch(reference, siteId, fetching), signal);
      },
      onlineSites: () =>
        attendance
          .online()
          .filter((siteId) => keyOf(siteId) !== null)
          .sort(),
      offlineForMs: (siteId) => (keyOf(siteId) === null ? Infinity : attendance.offlineForMs(siteId)),
      fault,
    },
    standing,
    async open(given) {
      inbox = given;
      const opened = await openExchange();
      opening.resolve(opened);
      closers.unshift(() => opened.close());
      closers.unshift(await link.subscribe(topics.everySite.messages, receive));
      const presence = await watchPresence(
        link,
        federation,
        admission.enrolledKeyOf,
        receivePresence,
        (siteId) => fault(siteId, 'message', 'no valid presence'),
      );
      closers.unshift(() => presence.close());
      isOpen = true;
      closers.unshift(
        link.onStatus((isOnline) => {
          if (isOnline) inbox?.connected();
        }),
      );
    },
    async close() {
      for (const close of closers) await close();
      inbox = null;
    },
  };
}
