/** A federation of processes on loopback: a coordinator with its broker, sites with their trainers, a proxy before each. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AgentClient } from '../../core/api/client.ts';
import { generateDemoFaces } from '../../core/data/demo-faces.ts';
import { createInvitation, parseInvitation } from '../../core/enrolment/invitation.ts';
import { createCatalogue } from '../../core/models/catalogue.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { type ChaosAgent, createChaosAgent, type Mishap } from './agent.ts';
import { createMosquitto, type Mosquitto } from './mosquitto.ts';
import { type LinkProxy, startProxy } from './proxy.ts';
import type { Member } from './schedule.ts';

/** A transformer of two small blocks: a round takes about as long as its messages. */
const model = fileURLToPath(new URL('../fixtures/vit/dinov2', import.meta.url));
const baseId = 'tiny-dino';
const subjectsPerSite = 12;

export interface ChaosSite {
  agent: ChaosAgent;
  name: string;
  siteId: string;
  proxy: LinkProxy;
  /** Of subjects with training images and a consent. */
  pseudonyms: string[];
  /** Imports what the hospital has; again, where crops were lost. */
  importImages(): Promise<void>;
}

export interface Federation {
  /** Null: the coordinator's own, in its process. */
  broker: Mosquitto | null;
  coordinator: ChaosAgent;
  sites: ChaosSite[];
  /** Of the run in progress, or the newest; null before the first. @throws Error while the coordinator does not answer */
  currentRun(): Promise<{ id: string; status: string; round: number } | null>;
  startRun(): Promise<void>;
  readonly rounds: number;
  readonly quorum: number;
  agentOf(member: Member): ChaosAgent;
  siteOf(member: Member): ChaosSite;
  /** Every clock, link and disk as it should be is not its affair: only that everything runs. */
  startAll(): Promise<void>;
  /** A new place beside the members' folders, on another disk than theirs. */
  placeFor(what: string): string;
  close(): Promise<void>;
}

export interface FederationOptions {
  folder: string;
  sites: number;
  rounds: number;
  epochs: number;
  roundDeadlineMs: number;
  withClock: boolean;
  broker: 'embedded' | 'mosquitto';
  onMishap(mishap: Mishap): void;
}

export async function startFederation(options: FederationOptions): Promise<Federation> {
  const { folder, rounds, epochs, roundDeadlineMs, withClock, onMishap } = options;
  const broker = options.broker === 'mosquitto' ? createMosquitto(join(folder, 'broker')) : null;
  const agentOf = (member: Member) => {
    const own = join(folder, member);
    mkdirSync(own, { recursive: true });
    const external = member === 'coordinator' ? broker?.place : undefined;
    return createChaosAgent({ member, folder: own, withClock, broker: external, onMishap });
  };
  const coordinator = agentOf('coordinator');
  const sites: ChaosSite[] = [];
  const agents = () => [coordinator, ...sites.map(({ agent }) => agent)];
  const quorum = Math.ceil((2 * options.sites) / 3);
  let classes: string[] = [];
  let places = 0;

  async function close(): Promise<void> {
    for (const { proxy } of sites) proxy.set({});
    for (const agent of agents()) agent.signal('SIGCONT');
    await Promise.allSettled(agents().map((agent) => agent.alone(() => agent.stop())));
    await Promise.allSettled([...sites.map(({ proxy }) => proxy.close()), broker?.kill()]);
  }

  try {
    await coordinator.start();
    const setUp = { federation: 'Chaos', port: 0, hosts: ['127.0.0.1'] };
    // The broker starts with what the coordinator writes for it, and the coordinator waits for it.
    await Promise.all([coordinator.client().setup.coordinator.mutate(setUp), broker?.start()]);
    await importModel(coordinator);
    const demo = await generateDemoFaces({
      ...{ outFolder: join(folder, 'images'), sites: options.sites, seed: 5, alpha: 100 },
      ...{ subjectsPerSite, imagesPerSubject: 2, withdrawnPerSite: 0 },
    });
    classes = [...new Set(demo.flatMap(({ byLabel }) => Object.keys(byLabel)))].sort();
    for (const [index, images] of demo.entries())
      sites.push(await addSite(agentOf(`site-${index}`), images, coordinator.client(), broker));
  } catch (error) {
    await close();
    throw error;
  }

  return {
    broker,
    coordinator,
    sites,
    rounds,
    quorum,
    agentOf: (member) => agents().find((agent) => agent.member === member)!,
    siteOf: (member) => sites.find(({ agent }) => agent.member === member)!,
    async currentRun() {
      const { runs } = await coordinator.client().coordinator.overview.query();
      const [newest] = runs;
      return newest === undefined ? null : { id: newest.id, status: newest.status, round: newest.round };
    },
    async startRun() {
      await coordinator.client().coordinator.startRun.mutate({
        ...{ baseId, classes, rounds, quorum, roundDeadlineMs, seed: 7 },
        ...{ initiatingRounds: 1, heatingRounds: 0, coolingRounds: 1, rMax: 4, rMin: 2 },
        ...{ targetModules: 'attention', training: { batchSize: 4, epochs } },
      });
    },
    async startAll() {
      await Promise.all(agents().map((agent) => agent.alone(() => agent.start())));
    },
    placeFor: (what) => join(folder, `${what}-${++places}`),
    close,
  };
}

const importModel = async ({ dataFolder }: ChaosAgent) => {
  await createCatalogue(join(dataFolder, 'models')).import(model, { id: baseId });
};

async function addSite(
  agent: ChaosAgent,
  images: { name: string; imagesFolder: string; labelsFile: string },
  coordinator: AgentClient,
  broker: Mosquitto | null,
): Promise<ChaosSite> {
  const { invitation } = await coordinator.coordinator.invite.mutate({ siteName: images.name });
  const invited = parseInvitation(invitation);
  const brokerPort = Number(new URL(invited.brokerUrl).port);
  const proxy = await startProxy(() => brokerPort);
  await agent.start();
  const client = agent.client();
  await importModel(agent);
  // As in a hospital whose gateway stands between: the site knows the gateway's address only.
  const brokerUrl = `mqtts://127.0.0.1:${proxy.port}`;
  const enrolment =
    broker === null ? {} : { enrolmentUrl: `mqtts://127.0.0.1:${broker.place.enrolmentPort}` };
  await client.setup.join.mutate({ invitation: createInvitation({ ...invited, ...enrolment, brokerUrl }) });
  const { imagesFolder, labelsFile } = images;
  const importImages = async () =>
    void (await agent.client().site.import.mutate({ imagesFolder, labelsFile, alreadyCropped: true }));
  await importImages();
  await client.site.setPolicy.mutate({ policy: openPolicy });
  const rows = await client.site.subjects.query();
  const known = await coordinator.coordinator.overview.query();
  const { id } = known.sites.find(({ name }) => name === images.name)!;
  return {
    agent,
    name: images.name,
    siteId: id,
    proxy,
    pseudonyms: rows.map(({ pseudonym }) => pseudonym).sort(),
    importImages,
  };
}

/** Asks again until there is an answer, or the time is over. @returns null then */
export async function persist<T>(
  ask: () => Promise<T>,
  forMs: number,
  stopAt: (error: unknown) => boolean = () => false,
): Promise<T | null> {
  const until = Date.now() + forMs;
  for (;;) {
    try {
      return await Promise.race([ask(), sleep(5_000).then(() => Promise.reject(new Error('no answer')))]);
    } catch (error) {
      if (stopAt(error) || Date.now() > until) return null;
      await sleep(300);
    }
  }
}
