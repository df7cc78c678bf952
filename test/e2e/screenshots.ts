/**
 * The images of README and docs: `npm run screenshots`. A real coordinator and three real sites on this machine with
 * generated cartoon faces; the images are taken before and in the middle of a run.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Browser, Locator } from 'playwright-core';
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

/** A whole section, however long. */
async function takeSection(section: Locator, name: string): Promise<void> {
  await section.page().waitForTimeout(500);
  await section.screenshot({ path: `${imagesFolder}${name}.png` });
  process.stdout.write(`docs/images/${name}.png\n`);
}

await mkdir(imagesFolder, { recursive: true });
await ensureBuilt();
await using federation = await startFederation(3, {
  federation: 'Rare Faces Network',
  siteNames: ['University Hospital North', 'Lakeside Children’s Clinic', 'Harbour Genetics Centre'],
  screens: true,
  approve: false,
  subjectsPerSite: 40,
  imagesPerSubject: 3,
  alpha: 2,
  withdrawnPerSite: 1,
});
await using browser = await launchBrowser();

/** A subject with something to show: two purposes, one of them renewed, and a label that was corrected. */
async function fillSubject(client: DemoAgent['client']): Promise<string> {
  const rows = await client.site.subjects.query({});
  const { pseudonym, labels } = rows.find(({ consent }) => consent === 'active')!;
  const purpose = 'federated-training';
  const paper = { documentVersion: 'v2.2', givenBy: 'guardian', reference: 'A-17/3' } as const;
  const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
  for (const [validFrom, expiresAt] of [
    ['2024-01-15', '2026-12-31'],
    ['2024-01-15', '2031-12-31'],
  ] as const)
    await client.consent.record.mutate({ pseudonym, purpose, ...paper, validFrom, expiresAt });
  const teaching = { pseudonym, purpose: 'teaching', documentVersion: 't1', validFrom: '2024-01-15' };
  await client.consent.record.mutate({ ...teaching, expiresAt: inDays(40) });
  const right = rows.flatMap((row) => row.labels).find((label) => label !== labels[0])!;
  const { rows: images } = await client.subjects.images.query({ pseudonym, pictures: false });
  await client.subjects.correct.mutate({
    ...{ pseudonym, images: [images[0]!.id], label: right },
    ...{ reason: 'new-finding', note: 'Letter of the genetics laboratory' },
  });
  return pseudonym;
}

async function takeSubjects(desk: Desk, pseudonym: string, ending: string): Promise<void> {
  await desk.goTo('Images and consent');
  await desk.page.getByRole('table', { name: 'Subjects' }).waitFor();
  await takeImage(desk, `subjects${ending}`);
  await desk.page.getByRole('link', { name: pseudonym, exact: true }).click();
  await desk.region('Images').getByRole('img').first().waitFor();
  await takeSection(desk.page.getByRole('main'), `subject${ending}`);
  await desk.goTo('Overview');
}

const letter = {
  title: 'Rare faces, second part',
  note: 'Dear colleagues,\nthis run repeats the first one with the patients of this year. Please call us with any question.',
};
const light = await openSignedIn(browser, federation.coordinator, 'light');
const dark = await openSignedIn(browser, federation.coordinator, 'dark');
const [first, second, third] = federation.sites;
const site = await openSignedIn(browser, first!.agent, 'light');
const darkSite = await openSignedIn(browser, first!.agent, 'dark');

const pseudonym = await fillSubject(first!.agent.client);
await takeSubjects(site, pseudonym, '');
await takeSubjects(darkSite, pseudonym, '-dark');
// The rest takes a run, and minutes.
if (!process.argv.includes('--subjects')) await takeRun();

async function takeRun(): Promise<void> {
  const { policy } = await third!.agent.client.site.policy.query();
  await third!.agent.client.site.setPolicy.mutate({ policy: { ...policy, maxRounds: 5 } });
  await light.field('Title').fill(letter.title);
  await light.field('Note').fill(letter.note);
  for (const label of federation.classes) {
    await light.page.getByLabel('Class labels').first().fill(label);
    await light.page.getByLabel('Class labels').first().press('Enter');
  }
  await light.page.getByText('this run has 10').waitFor();
  await takeSection(light.region('Plan a run'), 'planning');
  await third!.agent.client.site.setPolicy.mutate({ policy });
  await light.page.getByText('this run has 10').waitFor({ state: 'detached' });

  const { id } = await federation.coordinator.client.coordinator.startRun.mutate({
    ...letter,
    classes: federation.classes,
    rounds,
    quorum: federation.sites.length,
    training: { batchSize: 8 },
  });
  for (const [desk, name] of [
    [site, 'letter'],
    [darkSite, 'letter-dark'],
  ] as const) {
    const section = desk.region('Your approval is needed');
    await section.getByText(/Faces rebuilt from what it computes/).waitFor({ timeout: 300_000 });
    await takeSection(section, name);
  }
  await site.goTo('Policy');
  await darkSite.goTo('Policy');
  await takeSection(site.page.getByRole('main'), 'policy');
  await takeSection(darkSite.page.getByRole('main'), 'policy-dark');
  await site.goTo('Overview');
  for (const { agent } of [first!, second!, third!]) {
    const { pending } = await until('a letter', async () => {
      const requests = await agent.client.site.requests.query();
      return requests.pending === null ? null : requests;
    });
    await agent.client.site.approve.mutate({ contractSha256: pending!.contractSha256 });
  }
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
}
