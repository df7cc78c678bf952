/** An honest hospital of a rogue coordinator: a real agent process with generated faces, and what its people see. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type AgentReady, startAgentProcess } from '../../../core/agent/agent-process.ts';
import { createAgentClient } from '../../../core/api/client.ts';
import type { AuditRow } from '../../../core/api/contract.ts';
import { type DemoAgent, startDemoAgent } from '../../../core/cli/demo/demo-agent.ts';
import type { SitePolicy } from '../../../core/config/site-policy.ts';
import { type DemoFacesOptions, generateDemoFaces } from '../../../core/data/demo-faces.ts';
import { createCatalogue } from '../../../core/models/catalogue.ts';
import type { ErrorReport } from '../../../core/shared/errors.ts';
import { halves } from '../../fixtures/onnx-files.ts';
import type { RogueCoordinator } from './rogue-coordinator.ts';

export interface Victim extends AsyncDisposable {
  agent: DemoAgent;
  readonly dataFolder: string;
  readonly siteId: string;
  /** Nothing of the policy that was there stays. */
  setPolicy(change: Partial<SitePolicy>): Promise<void>;
  /** Entries of its audit trail since the last look at it, oldest first. */
  newAudit(): Promise<AuditRow[]>;
  activity(): Promise<string>;
  problem(): Promise<ErrorReport | null>;
  /** A person imports a base model here. @returns the identity */
  importBase(file: string, id: string): Promise<string>;
  /** Ends the process, does something to the folder, and starts it again, perhaps from another copy of the app. */
  restart(options?: { meanwhile?: (dataFolder: string) => void; program?: string }): Promise<void>;
}

export interface VictimOptions extends Partial<DemoFacesOptions> {
  /** Approves without a person what the policy allows; default true. */
  approve?: boolean;
  /** Makes the first image that trains the only one of a class of this name. */
  rareLabel?: string;
}

export async function startVictim(
  coordinator: RogueCoordinator,
  { approve = true, rareLabel, ...faces }: VictimOptions = {},
): Promise<Victim> {
  const folder = await mkdtemp(path.join(tmpdir(), 'anneal-victim-'));
  const dataFolder = path.join(folder, 'data');
  const options = { dataFolder, threads: 1, approve };
  const [images] = await generateDemoFaces({
    ...{ outFolder: path.join(folder, 'images'), sites: 1, seed: 5, alpha: 100, withdrawnPerSite: 0 },
    ...{ subjectsPerSite: 20, imagesPerSubject: 2, ...faces },
  });
  let seen = 0;
  const agent = await startDemoAgent(options);
  await agent.client.setup.join.mutate({ invitation: coordinator.invite('Hospital') });
  const { imagesFolder, labelsFile } = images!;
  if (rareLabel !== undefined) await makeRare(labelsFile, rareLabel);
  await agent.client.site.import.mutate({ imagesFolder, labelsFile, alreadyCropped: true });
  const { siteId } = await agent.client.site.overview.query();
  const victim: Victim = {
    ...{ agent, dataFolder, siteId: siteId! },
    async setPolicy(change) {
      const { defaults } = await victim.agent.client.site.policy.query();
      await victim.agent.client.site.setPolicy.mutate({ policy: { ...defaults, ...change } });
    },
    async newAudit() {
      const { rows } = await victim.agent.client.audit.query();
      const fresh = rows.filter(({ seq }) => seq > seen).reverse();
      seen = rows[0]?.seq ?? 0;
      return fresh;
    },
    activity: async () => (await victim.agent.client.site.overview.query()).activity,
    problem: async () => (await victim.agent.client.status.query()).problem,
    importBase: async (file, id) =>
      (await createCatalogue(path.join(dataFolder, 'models')).import(file, { id, ...halves })).sha256,
    async restart({ meanwhile, program } = {}) {
      await victim.agent.stop();
      meanwhile?.(dataFolder);
      victim.agent =
        program === undefined ? await startDemoAgent(options) : await startOther(program, dataFolder);
    },
    async [Symbol.asyncDispose]() {
      await victim.agent.kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return victim;
}

/** All rules off that can be off: what an attack gains where nobody objects. */
export const openPolicy: Partial<SitePolicy> = {
  ...{ minSubjects: 1, minSubjectsPerClass: 1, minProtectedSubjectsPerClass: 1, minContributors: 1 },
  ...{ minSmallCell: 1, minSteps: 1, minBatchSize: 1, requireClipping: false },
  ...{ allowBaseWeights: true, allowLeakyBases: true },
};

/** What of a run has left the site a while after it was asked: announced updates, answered evaluations, training steps. */
export async function leftAfter(coordinator: RogueCoordinator, runId: string, waitMs = 500) {
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  // A site repeats a message until it is answered: what it says once more is nothing more.
  const count = (type: 'announce' | 'evaluation' | 'progress') =>
    new Set(coordinator.saidOf(runId, type).map(({ body }) => JSON.stringify(body))).size;
  return { updates: count('announce'), evaluations: count('evaluation'), steps: count('progress') };
}

/** Columns: file, subject, label, split, … */
async function makeRare(labelsFile: string, label: string): Promise<void> {
  const lines = (await readFile(labelsFile, 'utf8')).split('\n').map((line) => line.split(','));
  const row = lines.find((columns) => columns[3] === 'train')!;
  row[2] = label;
  await writeFile(labelsFile, lines.map((columns) => columns.join(',')).join('\n'));
}

/** An agent from another copy of the app's source. */
async function startOther(program: string, dataFolder: string): Promise<DemoAgent> {
  const ready = Promise.withResolvers<AgentReady>();
  const lines: string[] = [];
  const started = startAgentProcess({
    nodePath: process.execPath,
    args: [program, '--data', dataFolder, '--with-parent', '--threads', '1', '--approve'],
    onReady: ready.resolve,
    log: (line) => void lines.push(line),
  });
  void started.exited.then(({ report }) =>
    ready.reject(new Error(report?.message ?? lines.slice(-20).join('\n'))),
  );
  const { socket } = await ready.promise;
  return {
    ...{ client: createAgentClient(socket), dataFolder, pid: started.pid!, url: null, accessCode: null },
    exited: started.exited.then(({ code }) => code),
    stop: () => started.stop(10_000),
    kill: started.kill,
  };
}
