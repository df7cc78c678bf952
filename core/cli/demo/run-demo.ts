/** The whole product on one machine: a coordinator, its sites, two runs (head only, SA-FedLoRA) and a report. */
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type AgentClient, fromClientError } from '../../api/client.ts';
import type { ImportReport, RunDetail } from '../../api/contract.ts';
import { AppError, toAppError } from '../../shared/errors.ts';
import { makeFolder } from '../../store/make-folder.ts';
import { type DemoData, prepareDemoData } from './data.ts';
import { type DemoAgent, startDemoAgent } from './demo-agent.ts';
import { type DemoPolicy, explainDemoPolicy, isRefusal, openPolicies, refusalAt } from './demo-policy.ts';
import type { LiveView } from './live-view.ts';
import type { DemoOptions } from './options.ts';
import { buildReport, type DemoReport } from './report.ts';

const pollMs = 400;
/** The head alone learns from cached features, so many epochs cost next to nothing: a fair baseline. */
const headOnlyEpochs = 20;
/** Images that a round should show to the network over all sites; few images are shown more often. */
const imagesPerRound = 700;
const maxEpochs = 4;

export interface DemoHooks {
  view: LiveView;
  signal: AbortSignal;
  /** The coordinator's screens can be opened. */
  onScreens(screens: { url: string; accessCode: string }): void;
  /** Called with the result while everything still runs; what it waits for keeps the screens open. */
  onResult(result: DemoResult): Promise<void> | void;
}

export interface DemoResult {
  report: DemoReport;
  outFolder: string;
}

interface DemoSiteProcess {
  name: string;
  agent: DemoAgent;
  imported: ImportReport;
}

/** @throws AppError CANCELLED after an abort; what an agent reports otherwise */
export async function runDemo(options: DemoOptions, hooks: DemoHooks): Promise<void> {
  const { view, signal } = hooks;
  const startedAt = performance.now();
  const outFolder = resolve(options.out);
  makeFolder(outFolder);
  // Databases, keys and crops live in a private folder that goes when the demo ends; logs and results stay.
  const workFolder = await mkdtemp(join(tmpdir(), 'anneal-demo-'));
  const agents: DemoAgent[] = [];
  try {
    view.say(
      options.images === undefined ? 'Drawing cartoon faces (no real people) …' : 'Reading the images …',
    );
    const data = await prepareDemoData(options, workFolder, signal);
    const coordinator = await startCoordinator(options, workFolder, agents, hooks);
    const sites = await startSites(data, coordinator.client, workFolder, agents, view, signal);
    const federation = { coordinator: coordinator.client, sites, agents };
    const trainingImages = sites.reduce((sum, site) => sum + countImages(site.imported, 'train'), 0);
    const settings = runSettings(options, data, trainingImages);
    let policy: DemoPolicy = 'default';
    let headOnly: RunDetail | null = null;
    const runBoth = async () => {
      headOnly ??= await runToEnd(federation, headOnlySettings(options, data), 'head only ', view, signal);
      return runToEnd(federation, settings, 'SA-FedLoRA', view, signal);
    };
    const run = await runBoth().catch(async (thrown: unknown) => {
      const refusal = fromClientError(thrown);
      if (!isRefusal(refusal)) throw thrown;
      view.say(explainDemoPolicy(refusal));
      policy = 'open';
      await openPolicies(sites.map(({ agent }) => agent));
      return runBoth();
    });
    const adapter = await exportGlobalAdapter(coordinator.client, run, outFolder);
    const report = buildReport({
      run,
      headOnly: headOnly!,
      options,
      policy,
      sites: sites.map(describeSite),
      device: `${data.sites.length} × cpu (onnxruntime)`,
      wallSeconds: (performance.now() - startedAt) / 1000,
      globalAdapterSha256: adapter,
    });
    await writeFile(join(outFolder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
    // With the charts, which no other command should load.
    const { renderReportPage } = await import('./report-page.ts');
    await writeFile(join(outFolder, 'report.html'), renderReportPage(report));
    view.end();
    await hooks.onResult({ report, outFolder });
  } catch (thrown) {
    if (signal.aborted) throw new AppError('CANCELLED', 'The demo was stopped.');
    throw thrown;
  } finally {
    view.end();
    await Promise.all(agents.map((agent) => agent.stop()));
    await keepLogs(workFolder, outFolder);
    await rm(workFolder, { recursive: true, force: true });
  }
}

async function startCoordinator(
  options: DemoOptions,
  workFolder: string,
  agents: DemoAgent[],
  hooks: DemoHooks,
): Promise<DemoAgent> {
  const coordinator = await startDemoAgent({
    dataFolder: join(workFolder, 'coordinator'),
    ...(options.ui ? { uiPort: 0 } : {}),
  });
  agents.push(coordinator);
  await coordinator.client.setup.coordinator.mutate({ federation: 'Demo', port: 0, hosts: ['127.0.0.1'] });
  if (coordinator.url !== null && coordinator.accessCode !== null) {
    hooks.onScreens({ url: coordinator.url, accessCode: coordinator.accessCode });
  }
  return coordinator;
}

/** Starts, enrols and fills the sites side by side, as separate processes with separate stores. */
async function startSites(
  data: DemoData,
  coordinator: AgentClient,
  workFolder: string,
  agents: DemoAgent[],
  view: LiveView,
  signal: AbortSignal,
): Promise<DemoSiteProcess[]> {
  // Cores are shared out: more threads than cores would only make every site slower.
  const threads = Math.max(1, Math.floor(availableParallelism() / data.sites.length));
  const started = data.sites.map(async (site): Promise<DemoSiteProcess> => {
    const agent = await startDemoAgent({
      dataFolder: join(workFolder, site.name),
      threads,
      approve: true,
    });
    agents.push(agent);
    const { invitation } = await coordinator.coordinator.invite.mutate({ siteName: site.name });
    await agent.client.setup.join.mutate({ invitation });
    signal.throwIfAborted();
    const imported = await agent.client.site.import.mutate({
      imagesFolder: resolve(site.imagesFolder),
      labelsFile: resolve(site.labelsFile),
      alreadyCropped: data.alreadyCropped,
    });
    view.say(
      `${site.name}: joined; ${countImages(imported, 'train')} training and ${countImages(imported, 'test')} held-out images, ${imported.setAside.length} set aside, ${imported.withoutConsent} without consent`,
    );
    return { name: site.name, agent, imported };
  });
  // All of them end before an error is passed on, so that no process is left behind.
  const results = await Promise.allSettled(started);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

function commonSettings(options: DemoOptions, data: DemoData) {
  return {
    classes: data.classes,
    rounds: options.rounds,
    quorum: data.sites.length,
    seed: options.seed,
    roundDeadlineMs: 10 * 60_000,
  };
}

/** Few rounds leave less room for the fixed parts of the schedule. */
function runSettings(options: DemoOptions, data: DemoData, trainingImages: number) {
  const epochs = Math.min(maxEpochs, Math.max(1, Math.round(imagesPerRound / trainingImages)));
  const initiatingRounds = Math.min(2, Math.max(0, options.rounds - 1));
  const coolingRounds = options.rounds - initiatingRounds >= 3 ? 1 : 0;
  return {
    ...commonSettings(options, data),
    strategy: 'sa-fedlora' as const,
    shape: options.schedule,
    rMax: 16,
    rMin: 2,
    initiatingRounds,
    // The first annealing round is at the highest rank anyway.
    heatingRounds: 0,
    coolingRounds,
    training: { epochs },
  };
}

function headOnlySettings(options: DemoOptions, data: DemoData) {
  return {
    ...commonSettings(options, data),
    strategy: 'head-only' as const,
    initiatingRounds: 0,
    heatingRounds: 0,
    coolingRounds: 0,
    training: { epochs: headOnlyEpochs, augment: false },
  };
}

interface DemoFederation {
  coordinator: AgentClient;
  sites: readonly DemoSiteProcess[];
  agents: readonly DemoAgent[];
}

/** @throws AppError POLICY_REFUSED when a site's policy refuses the run, which is then stopped */
async function runToEnd(
  { coordinator: client, sites, agents }: DemoFederation,
  settings: ReturnType<typeof runSettings> | ReturnType<typeof headOnlySettings>,
  title: string,
  view: LiveView,
  signal: AbortSignal,
): Promise<RunDetail> {
  const { id } = await client.coordinator.startRun.mutate(settings);
  const lost = Promise.race(agents.map((agent) => agent.exited)).then(() => {
    if (!signal.aborted)
      throw new AppError('INTERNAL', 'A process of the demo ended unexpectedly; see the logs.');
  });
  lost.catch(() => {});
  for (;;) {
    signal.throwIfAborted();
    const run = await Promise.race([
      client.coordinator.run.query({ runId: id }),
      lost.then(() => Promise.reject(new AppError('CANCELLED', 'The demo was stopped.'))),
    ]);
    view.show(title, run);
    if (run.failure !== null) throw AppError.fromReport(run.failure);
    if (run.status === 'finished') return run;
    for (const { name, agent } of sites) {
      const refusal = await refusalAt({ name, client: agent.client });
      if (refusal === null) continue;
      await client.coordinator.stopRun.mutate({ runId: id });
      throw refusal;
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

async function exportGlobalAdapter(client: AgentClient, run: RunDetail, outFolder: string): Promise<string> {
  const rows = await client.adapters.query();
  const last = rows.find(
    (row) => row.runId === run.id && row.kind === 'global' && row.round === run.rounds - 1,
  );
  if (last === undefined) throw new AppError('NOT_FOUND', 'The run produced no global adapter.');
  await client.exportAdapter.mutate({ sha256: last.sha256, folder: join(outFolder, 'adapter') });
  return last.sha256;
}

function countImages({ byLabel }: ImportReport, split: 'train' | 'test'): number {
  return Object.values(byLabel).reduce((sum, label) => sum + label[split], 0);
}

function describeSite(site: DemoSiteProcess): DemoReport['sites'][number] {
  const { name, imported } = site;
  return {
    name,
    train: countImages(imported, 'train'),
    test: countImages(imported, 'test'),
    byLabel: imported.byLabel,
  };
}

async function keepLogs(workFolder: string, outFolder: string): Promise<void> {
  try {
    for (const entry of await readdir(workFolder, { withFileTypes: true })) {
      if (!entry.isDirectory() || entry.name === 'images') continue;
      await cp(join(workFolder, entry.name, 'logs'), join(outFolder, 'logs', entry.name), {
        recursive: true,
      });
    }
  } catch (thrown) {
    // Losing the logs is no reason to lose the result.
    if (toAppError(thrown).code === 'DISK_FULL') return;
  }
}
