/**
 * The README's images: `npm run screenshots`. A real coordinator and three real sites on this machine with
 * generated cartoon faces; the images are taken in the middle of a run.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { ensureBuilt } from '../../build/ensure-built.ts';
import type { DemoAgent } from '../../core/cli/demo/demo-agent.ts';
import { launchBrowser } from '../fixtures/browser.ts';
import { type Desk, openDeskAt } from '../fixtures/desk.ts';
import { startFederation, until } from '../fixtures/federation.ts';

const imagesFolder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const rounds = 10;
/** Rounds that are done when the images are taken: charts have a shape, and something still moves. */
const imagedAfter = 6;

async function openSignedIn(browser: Browser, agent: DemoAgent, scheme: 'light' | 'dark'): Promise<Desk> {
  const desk = await openDeskAt(browser, agent, scheme);
  await desk.signIn();
  return desk;
}

async function takeImage({ page }: Desk, name: string): Promise<void> {
  // A pointer over a chart would draw its marker.
  await page.mouse.move(120, 500);
  // Charts draw themselves in over most of a second.
  await page.waitForTimeout(1_500);
  await page.screenshot({ path: `${imagesFolder}${name}.png` });
  process.stdout.write(`docs/images/${name}.png\n`);
}

await mkdir(imagesFolder, { recursive: true });
await ensureBuilt();
await using federation = await startFederation(3, {
  federation: 'Rare Faces Network',
  siteNames: ['University Hospital North', 'Lakeside Children’s Clinic', 'Harbour Genetics Centre'],
  screens: true,
  subjectsPerSite: 40,
  imagesPerSubject: 3,
  alpha: 2,
  withdrawnPerSite: 1,
});
await using browser = await launchBrowser();

const { id } = await federation.coordinator.client.coordinator.startRun.mutate({
  classes: federation.classes,
  rounds,
  quorum: federation.sites.length,
});
const light = await openSignedIn(browser, federation.coordinator, 'light');
const dark = await openSignedIn(browser, federation.coordinator, 'dark');
const [first] = federation.sites;
const site = await openSignedIn(browser, first!.agent, 'light');
await light.page.goto(`${federation.coordinator.url}#/runs/${id}`);

await until(
  `round ${imagedAfter + 1} at work`,
  async () => {
    const { done } = await federation.run();
    const open = done.find((round) => round.status === 'open');
    return open !== undefined && open.round >= imagedAfter && open.sites.some((row) => (row.step ?? 0) > 0);
  },
  600_000,
);
await light.page
  .getByRole('progressbar', { name: /^Steps of/ })
  .nth(1)
  .waitFor();
await takeImage(light, 'coordinator');
await takeImage(dark, 'coordinator-dark');

await site.heading('Training on this site’s images').waitFor({ timeout: 60_000 });
await site.page.getByText(/^Step: \d+ of \d+$/).waitFor();
await takeImage(site, 'site');
