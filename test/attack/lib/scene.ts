/** An honest federation of agent processes with an enrolled attacker in it, and what each side can see of a run. */
import path from 'node:path';
import type { AuditRow, RunDetail } from '../../../core/api/contract.ts';
import type { RunSettings } from '../../../core/config/run-config.ts';
import { type ModelState, mapTensors } from '../../../core/lora/model-state.ts';
import { decodeModelState, encodeModelState } from '../../../core/lora/state-file.ts';
import { createRandom } from '../../../core/shared/random.ts';
import { floatTensor } from '../../../core/shared/tensor.ts';
import { createBlobStore } from '../../../core/store/blobs.ts';
import type { ManifestBody } from '../../../core/transport/messages.ts';
import { startFederation, type TestFederation, until } from '../../fixtures/federation.ts';
import { enrolRogueSite, type RogueSite, type RogueSiteOptions } from './rogue-site.ts';

export interface Scene extends AsyncDisposable {
  readonly federation: TestFederation;
  /** The attacker of one test, who has said hello. When it is disposed of, the coordinator removes the site, and nobody waits for it. */
  admit(options: RogueSiteOptions): Promise<RogueSite>;
  /** @returns the run's id */
  startRun(settings: RunSettings): Promise<string>;
  run(runId: string): Promise<RunDetail>;
  /** Waits until a run is over, however. */
  ended(runId: string, timeoutMs?: number): Promise<RunDetail>;
  /** Entries of the coordinator's audit trail since the scene's last look at it, oldest first. */
  newAudit(): Promise<AuditRow[]>;
  /** What the coordinator made of a run's first round, or what an honest site (by its index) sent for it. */
  adapterOf(who: 'coordinator' | number, runId: string, kind: 'global' | 'update'): Promise<ModelState>;
}

/** A run that asks for nothing that the default policy refuses, and for little work: one round over the last layers. */
export const modestRun = (federation: TestFederation): RunSettings => ({
  ...{ classes: [...federation.classes], rounds: 1, quorum: 3 },
  ...{ initiatingRounds: 1, heatingRounds: 0, coolingRounds: 0, rMax: 4, rMin: 2 },
  targetModules: 'level-256',
  training: { batchSize: 4, epochs: 2 },
});

/** Three honest sites: the default policy of each asks for at least three contributors. */
export async function startScene(sites = 3): Promise<Scene> {
  const federation = await startFederation(sites, { subjectsPerSite: 20, imagesPerSubject: 2 });
  const { client } = federation.coordinator;
  let seen = 0;
  const run = (runId: string) => client.coordinator.run.query({ runId });

  return {
    federation,
    run,
    async admit(options) {
      const rogue = await enrolRogueSite(client, options);
      let removed = false;
      await rogue.hello();
      if (options.presence !== false)
        await until('the coordinator to see it', async () => {
          const { sites } = await client.coordinator.overview.query();
          return sites.some(({ id, online }) => id === rogue.siteId && online);
        });
      return {
        ...rogue,
        get cuts() {
          return rogue.cuts;
        },
        get newestManifest() {
          return rogue.newestManifest;
        },
        async [Symbol.asyncDispose]() {
          if (removed) return;
          removed = true;
          await rogue[Symbol.asyncDispose]();
          await client.coordinator.revoke.mutate({ siteId: rogue.siteId });
        },
      };
    },
    startRun: async (settings) => (await client.coordinator.startRun.mutate(settings)).id,
    ended: (runId, timeoutMs = 60_000) =>
      until(
        'the run to end',
        async () => {
          const detail = await run(runId);
          return ['finished', 'failed', 'stopped'].includes(detail.status) && detail;
        },
        timeoutMs,
      ),
    async newAudit() {
      const { rows } = await client.audit.query();
      const fresh = rows.filter(({ seq }) => seq > seen).reverse();
      seen = rows[0]?.seq ?? 0;
      return fresh;
    },
    async adapterOf(who, runId, kind) {
      const agent = who === 'coordinator' ? federation.coordinator : federation.sites[who]!.agent;
      const adapters = await agent.client.adapters.query();
      const { sha256 } = adapters.find((row) => row.runId === runId && row.kind === kind && row.round === 0)!;
      const blobs = createBlobStore(path.join(agent.dataFolder, 'blobs'));
      return decodeModelState(await blobs.read(sha256), 'state');
    },
    [Symbol.asyncDispose]: () => federation[Symbol.asyncDispose](),
  };
}

/** What every honest participant knows of a round's beginning. */
export async function startStateOf(rogue: RogueSite, { state }: ManifestBody): Promise<ModelState> {
  return decodeModelState(await rogue.fetch(state!), 'state');
}

/** The state with its head moved at random: what a site might send that trained, of a size that nobody minds. */
export function movedHead(start: ModelState, seed: number, size = 0.05): ModelState {
  const random = createRandom(seed);
  return mapTensors(start, (tensor, name) =>
    name.startsWith('head.')
      ? floatTensor(
          tensor.dims,
          tensor.data.map((value) => value + size * random.normal()),
        )
      : tensor,
  );
}

export const encode = encodeModelState;

/** The attack is over: the others need not wait for this site any longer. */
export const leave = (rogue: RogueSite): Promise<void> => Promise.resolve(rogue[Symbol.asyncDispose]());

/** Says the same again and again, until the coordinator has had enough of it. @returns why, as the site is told */
export async function insist(rogue: RogueSite, type: string, body: unknown): Promise<string> {
  for (let tries = 0; tries < 100 && rogue.dismissals.length === 0; tries++)
    await rogue.say(type, body).catch(() => {});
  const told = async () => rogue.dismissals[0]?.reason;
  return until('the coordinator to have had enough', told, 5_000);
}
