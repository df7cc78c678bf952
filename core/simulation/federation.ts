/**
 * One run's federation in this process: the deployed coordinator and sites with their stores, blobs and wire formats,
 * over a broker in memory. Only enrolment is cut short: keys are made here and the sites registered directly.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import type { SitePolicy } from '../config/site-policy.ts';
import { connectCoordinator } from '../coordinator/connection.ts';
import { type CoordinatorNode, createCoordinator } from '../coordinator/coordinator.ts';
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import { loadOrCreateSigner } from '../enrolment/key-files.ts';
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { AppError, type ErrorCode } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { connectSite } from '../site/connection.ts';
import { createFrozenBaseMerge, type FrozenBaseMerge } from '../site/frozen-base-merge.ts';
import { setPolicy } from '../site/policy.ts';
import { createSite, type SiteNode } from '../site/site.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { createBlobStore } from '../store/blobs.ts';
import { openStore, type Store } from '../store/store.ts';
import { createMemoryBroker, type MemoryBroker } from '../transport/memory-link.ts';
import { createPresence } from '../transport/presence.ts';
import type { Signer } from '../transport/signature.ts';
import { coordinatorId } from '../transport/topics.ts';
import { databaseName, withSharedCrops } from './site-stores.ts';
import type { RunTrainer } from './trainer-pool.ts';

export interface FederationOptions {
  /** As `prepareRunFolder` made it. */
  folder: string;
  config: RunConfig;
  /** Of every site. */
  policy: SitePolicy;
  sites: readonly { siteId: string; name: string }[];
  /** Holds the images' crops. */
  crops: BlobStore;
  catalogue: Catalogue;
  trainer: RunTrainer;
  compute: ComputeSettings;
  products: MatrixProducts;
  version: string;
  logger: Logger;
  /** Something about the run changed at the coordinator. */
  onChange(): void;
  /** A site cannot go on. */
  onSiteProblem(siteName: string, problem: AppError): void;
}

export interface SimulatedFederation {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly sites: readonly { readonly siteId: string; readonly store: Store; readonly blobs: BlobStore }[];
  /** Starts the run, or goes on with the one that is there. @throws AppError as `CoordinatorNode.startRun` */
  start(): Promise<string>;
  /** Stops at the last step that was persisted; what runs is broken off. */
  close(): Promise<void>;
}

const federation = 'simulation';
/** Nobody waits for a sign of life. */
const longestTimerMs = 2 ** 31 - 1;
/** After these a site goes on with the next manifest. */
const passing: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'BROKER_UNREACHABLE', 'BLOB_CORRUPT']);

interface Parts {
  options: FederationOptions;
  broker: MemoryBroker;
  /** All sites of the run put the same parts under their states. */
  frozenBases: FrozenBaseMerge;
  /** Closed in this order. */
  closers: (() => Promise<void> | void)[];
}

/**
 * Seeded noise, anew for each round: so a run that was interrupted draws what it would have drawn. A deployed site
 * takes its noise from the operating system.
 */
function createRoundNoise(seed: number, who: string) {
  let round: number | null = null;
  let random = createRandom(seed);
  return {
    normal: () => random.normal(),
    /** Call it when a round may have begun. */
    follow(current: number) {
      if (current === round) return;
      round = current;
      random = createRandom(mixSeed(seed, 'noise', who, current));
    },
  };
}

/** @throws AppError DISK_FULL | DATA_FOLDER_UNUSABLE | DATABASE_DAMAGED */
export async function openFederation(options: FederationOptions): Promise<SimulatedFederation> {
  const parts: Parts = {
    options,
    broker: createMemoryBroker({ logger: options.logger }),
    frozenBases: createFrozenBaseMerge(),
    closers: [],
  };
  const close = async () => {
    for (const closer of parts.closers.splice(0)) await closer();
  };
  try {
    const signers = await Promise.all(
      options.sites.map(({ siteId }) => loadOrCreateSigner(join(options.folder, siteId, 'keys'), siteId)),
    );
    const coordinator = await openCoordinator(parts, signers);
    const sites = [];
    for (const [index, site] of options.sites.entries()) {
      sites.push(await openSite(parts, site, signers[index]!, coordinator.publicKey));
    }
    await coordinator.everybodyOnline(sites.length);
    return {
      store: coordinator.store,
      blobs: coordinator.blobs,
      sites,
      start: () => startRun(options.config, coordinator.store, coordinator.node),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startRun(config: RunConfig, store: Store, node: CoordinatorNode): Promise<string> {
  const [begun] = store.runs.list();
  if (begun !== undefined) {
    await node.resume();
    return begun.id;
  }
  const { baseSha256: _, ...settings } = config;
  return (await node.startRun(settings)).id;
}

async function openCoordinator({ options, broker, closers }: Parts, signers: readonly Signer[]) {
  const { logger, sites, version, catalogue } = options;
  const folder = join(options.folder, coordinatorId);
  const signer = await loadOrCreateSigner(join(folder, 'keys'), coordinatorId);
  const store = openStore(join(folder, databaseName), { durability: 'process' });
  closers.unshift(() => store.close());
  for (const [index, { siteId, name }] of sites.entries()) {
    const { publicKey } = signers[index]!;
    store.sites.upsert({ id: siteId, name, publicKey, certificateSerial: 'simulation' });
  }
  const blobs = createBlobStore(join(folder, 'blobs'), { durability: 'process' });
  const link = broker.connect({ clientId: coordinatorId });
  closers.unshift(() => link.close());
  const connection = connectCoordinator({
    link,
    federation,
    coordinatorName: federation,
    version,
    signer,
    store,
    blobs,
    logger,
    onProgress: () => {},
    // Simulated sites are honest, and share this process: a pause of it must not change who takes part.
    signOfLifeMs: Number.POSITIVE_INFINITY,
    budget: { points: Number.MAX_SAFE_INTEGER, messagesPerMinute: Number.MAX_SAFE_INTEGER },
  });
  const noise = createRoundNoise(options.config.seed, coordinatorId);
  const node = createCoordinator({
    federation,
    askedBy: { federation, coordinatorKey: signer.publicKey },
    brokerAddress: 'memory',
    store,
    blobs,
    logger,
    catalogue,
    ports: connection.ports,
    createInvitation: async () => {
      throw new AppError('NOT_ALLOWED', 'Simulated sites need no invitation.');
    },
    disconnect: () => {},
    noise,
    products: options.products,
    onChange() {
      const [run] = store.runs.list();
      if (run !== undefined) noise.follow(run.round);
      options.onChange();
    },
  });
  await connection.open(node.inbox);
  closers.unshift(() => connection.close());
  closers.unshift(() => node.close());
  return {
    node,
    store,
    blobs,
    publicKey: signer.publicKey,
    /** The first round waits for all, so that a repetition begins as the first time did. */
    async everybodyOnline(count: number) {
      while (connection.ports.onlineSites().length < count) await new Promise(setImmediate);
    },
  };
}

async function openSite(
  { options, broker, frozenBases, closers }: Parts,
  { siteId, name }: { siteId: string; name: string },
  signer: Signer,
  coordinatorPublicKey: string,
) {
  const { logger, version, catalogue, config } = options;
  const folder = join(options.folder, siteId);
  await mkdir(join(folder, 'work'), { recursive: true });
  const store = openStore(join(folder, databaseName), { durability: 'process' });
  closers.unshift(() => store.close());
  if (store.sitePolicies.newest() === null) setPolicy(store, options.policy, 'experiment');
  const blobs = createBlobStore(join(folder, 'blobs'), { durability: 'process' });
  const presence = createPresence(federation, signer, logger);
  const link = broker.connect({ clientId: siteId, will: () => presence.will() });
  closers.unshift(() => link.close());
  presence.attach(link);
  const noise = createRoundNoise(config.seed, name);
  // Of its own: a round that goes on after an interruption does not evaluate a second time.
  const answerNoise = createRoundNoise(config.seed, `answers of ${name}`);
  let node: SiteNode | null = null;
  const connection = connectSite({
    link,
    federation,
    signer,
    coordinatorPublicKey,
    name,
    version,
    baseIds: async () => [config.baseId],
    policy: () => options.policy,
    helloEveryMs: longestTimerMs,
    store,
    blobs,
    logger,
    onManifest(manifest) {
      noise.follow(manifest.round);
      answerNoise.follow(manifest.round);
      node?.receiveManifest(manifest);
    },
    onUnreadable: (error) => node?.refuseUnreadable(error),
    onReceipt: (receipt) => node?.receiveReceipt(receipt) ?? false,
  });
  const created = createSite({
    siteId,
    siteName: name,
    store,
    blobs: withSharedCrops(blobs, options.crops),
    trainer: options.trainer,
    ports: connection.ports,
    logger,
    catalogue,
    workFolder: join(folder, 'work'),
    compute: () => options.compute,
    noise,
    answerNoise,
    frozenBases,
    askedBy: { federation, coordinatorKey: coordinatorPublicKey },
    // Nothing leaves this process: the leak of the base model is not measured here.
    baseFacts: async () => ({ hardlyCompresses: false }),
    autoApprove: true,
    onChange() {
      const problem = node?.problem ?? null;
      // What a site would try again in life stops it for good here, but for a transfer that came too late.
      if (problem !== null && !passing.has(problem.code)) {
        const { code, message, action } = problem;
        options.onSiteProblem(name, new AppError(code, `${name}: ${message}`, { action }));
      }
    },
    onProgress: () => {},
  });
  node = created;
  await connection.open();
  closers.unshift(() => connection.close());
  closers.unshift(() => created.close());
  return { siteId, store, blobs };
}
