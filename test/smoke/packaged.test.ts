/** The packaged app outside the checkout: its agent, one real training round, its first screen. */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { firstPage, launchApp } from '../electron-standin/launch.ts';
import { descendantsOf, isRunning } from '../fixtures/shell/processes.ts';
import { packagedApp, startPackagedAgent } from './packaged-app.ts';

const app = packagedApp(inject('packageFolder'));
const work = mkdtempSync(join(tmpdir(), 'anneal-smoke-work-'));

afterAll(() => rmSync(work, { recursive: true, force: true, maxRetries: 5 }));

/** Runs a script on the packaged Node, with the packaged modules in reach and no others. */
function onPackagedNode(script: string, ...args: string[]): string {
  return execFileSync(app.node, ['--input-type=module', '--eval', script, ...args], {
    cwd: app.root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
}

const demoSites = z.array(z.object({ name: z.string(), imagesFolder: z.string(), labelsFile: z.string() }));

/** Draws the demo's faces with the packaged code. */
function drawFaces(folder: string): { sites: z.infer<typeof demoSites>; classes: string[] } {
  const script = `
    const { generateDemoFaces, demoLabels } = await import(process.argv[1]);
    const sites = await generateDemoFaces({
      outFolder: process.argv[2], sites: 3, seed: 3, alpha: 100, subjectsPerSite: 16, imagesPerSubject: 2, heldOutShare: 0.25,
    });
    process.stdout.write(JSON.stringify({ sites, classes: demoLabels }));`;
  const module = pathToFileURL(join(app.root, 'core/data/demo-faces.ts')).href;
  return z
    .object({ sites: demoSites, classes: z.array(z.string()) })
    .parse(JSON.parse(onPackagedNode(script, module, folder)));
}

describe('the package', () => {
  it('holds the pinned Node and every module that the agent and the command line name', () => {
    const names = new Set<string>();
    for (const file of readdirSync(join(app.root, 'core'), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const source = readFileSync(join(app.root, 'core', file), 'utf8').replace(/^import type .*$/gm, '');
      for (const [, name] of source.matchAll(/(?:from|import|import\(|require\()\s*'([@\w][\w@/.-]*)'/g)) {
        names.add(name!); // Node's own, like node:fs, do not fit the pattern.
      }
    }
    const script = `
      const missing = [];
      for (const name of process.argv.slice(1)) {
        await import(name).catch((error) => missing.push(name + ': ' + error.message.split('\\n')[0]));
      }
      process.stdout.write(JSON.stringify({ missing, version: process.version, path: process.execPath }));`;

    const seen = JSON.parse(onPackagedNode(script, ...names)) as Record<string, unknown>;

    expect(names.size).toBeGreaterThan(10);
    expect(seen['missing']).toEqual([]);
    expect(seen['version']).toMatch(/^v24\./);
    expect(seen['path']).toBe(app.node);
  });

  it('holds nothing of the screens’ or the build’s own packages', () => {
    const packed = new Set(readdirSync(join(app.root, 'node_modules')));

    expect(
      ['react', 'react-dom', 'recharts', 'vite', 'typescript', 'electron', 'vitest'].filter((name) =>
        packed.has(name),
      ),
    ).toEqual([]);
  });

  it('runs its agent on its own Node and answers the API', async () => {
    const agent = await startPackagedAgent(app, join(work, 'first'));

    const status = await agent.client.status.query();
    const devices = await agent.client.devices.query();
    await agent.stop();

    expect(status).toMatchObject({ mode: 'unset', problem: null });
    expect(devices.length).toBeGreaterThan(0);
  });

  it('finds faces in photographs with the packaged detector', async () => {
    const imagesFolder = join(work, 'photographs');
    // Photographs of the detector's own package, which are not part of Anneal's.
    const samples = new URL('../../node_modules/@vladmandic/face-api/demo/', import.meta.url);
    mkdirSync(imagesFolder);
    copyFileSync(new URL('sample1.jpg', samples), join(imagesFolder, 'one.jpg'));
    const labelsFile = join(work, 'photographs.csv');
    writeFileSync(labelsFile, 'file,subject,label\none.jpg,a,unaffected\n');
    const agent = await startPackagedAgent(app, join(work, 'faces-site'));

    const report = await agent.client.site.import.mutate({ imagesFolder, labelsFile, alreadyCropped: false });
    await agent.stop();

    // Either one face was cut out, or several were found: both need the detector to have run.
    expect(report.imported + report.setAside.length).toBe(1);
    for (const { reason } of report.setAside) expect(reason).toMatch(/faces/);
  });

  it('trains one real round: a coordinator and three sites under the default policy, over the broker', async () => {
    const { sites, classes } = drawFaces(join(work, 'faces'));
    const coordinator = await startPackagedAgent(app, join(work, 'coordinator'));
    const agents = [coordinator];
    try {
      await coordinator.client.setup.coordinator.mutate({ federation: 'Smoke test', port: 0 });
      for (const [index, site] of sites.entries()) {
        const agent = await startPackagedAgent(app, join(work, `site-${index}`), ['--approve']);
        agents.push(agent);
        const { invitation } = await coordinator.client.coordinator.invite.mutate({ siteName: site.name });
        await agent.client.setup.join.mutate({ invitation });
        const { imagesFolder, labelsFile } = site;
        await agent.client.site.import.mutate({ imagesFolder, labelsFile, alreadyCropped: true });
      }
      const started = await coordinator.client.coordinator.startRun.mutate({
        classes,
        rounds: 1,
        initiatingRounds: 0,
        heatingRounds: 1,
        coolingRounds: 0,
        rMax: 4,
        rMin: 2,
        quorum: 3,
        training: { batchSize: 4, epochs: 2 },
      });
      const readRun = () => coordinator.client.coordinator.run.query({ runId: started.id });
      await expect
        .poll(async () => (await readRun()).status, { timeout: 200_000, interval: 500 })
        .toBe('finished');

      const run = await readRun();
      const adapters = await coordinator.client.adapters.query();
      expect(run.done).toHaveLength(1);
      expect(run.done[0]!.sites.map((site) => site.status)).toEqual(['received', 'received', 'received']);
      expect(run.done[0]!.meanLoss).toBeGreaterThan(0);
      expect(run.done[0]!.bytesUp).toBeGreaterThan(0);
      expect(adapters.some((adapter) => adapter.kind === 'global')).toBe(true);
    } finally {
      await Promise.all(agents.map((agent) => agent.stop()));
    }
  });

  it('shows its first screen, and leaves no process behind', async () => {
    const launched = await launchApp({ executablePath: app.executable, userData: join(work, 'profile') });
    const page = await firstPage(launched);

    await page.getByText('What is this installation for?').waitFor();
    const packaged = await launched.evaluate(({ app }) => app.isPackaged);
    const main = launched.process().pid!;
    const all = [main, ...descendantsOf(main)];
    await launched.close();

    expect(packaged).toBe(true);
    await expect.poll(() => all.filter(isRunning), { timeout: 15_000 }).toEqual([]);
  });
});
