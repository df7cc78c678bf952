/** A real site trains and answers as its policy says. */
import { describe, expect, test, vi } from 'vitest';
import { defaultRunConfig, type RunConfig } from '../../core/config/run-config.ts';
import type { SitePolicy } from '../../core/config/site-policy.ts';
import { openPolicy } from '../../core/simulation/policies.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import type {
  AnnounceBody,
  EvaluationBody,
  ManifestBody,
  ProgressBody,
} from '../../core/transport/messages.ts';
import { type LoneSite, offer, openLoneSite } from '../fixtures/lone-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const timeoutMs = 60_000;
const soon = { timeout: timeoutMs, interval: 50 };
/** Of the site: three images each of four subjects train, six images of two others are held out. */
const heldOut = 6;

async function configOf({ catalogue }: LoneSite, change: Partial<RunConfig> = {}): Promise<RunConfig> {
  const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
  return defaultRunConfig({
    ...{ baseId: 'dino', baseSha256: await catalogue.identify('dino'), classes: shapeClasses },
    ...{ strategy: 'fedavg-lora', rounds: 1, rMax: 2, smallCell: 1 },
    training: { ...training, epochs: 2, batchSize: 4 },
    ...change,
  });
}

async function firstManifest(site: LoneSite, dir: string, config: RunConfig): Promise<ManifestBody> {
  const base = await site.catalogue.load('dino');
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const state = encodeGlobalState(createRunState(config, base), { config, plan, base });
  return manifestOf(config, base, 0, await offer(dir, state));
}

const evaluations = ({ sent }: LoneSite) =>
  sent.filter(({ type }) => type === 'evaluation').map(({ body }) => body as EvaluationBody);
const reasons = ({ sent }: LoneSite) =>
  sent.flatMap((message) => (message.type === 'declined' ? [message.body.reason] : []));

/** One round, and its update as the last state, as with a single site. */
async function wholeRun(dir: string, policy: Partial<SitePolicy>, change: Partial<RunConfig> = {}) {
  await using site = await openLoneSite(dir);
  setPolicy(site.store, { ...openPolicy, ...policy }, 'test');
  const config = await configOf(site, change);
  const first = await firstManifest(site, dir, config);
  site.node.receiveManifest(first);
  await vi.waitFor(() => expect(site.sent.map(({ type }) => type)).toContain('announce'), soon);
  const announced = site.store.roundSites.get('run', 0, 'site')!;
  const update = await site.blobs.read(announced.updateSha256!);
  const last = manifestOf(config, await site.catalogue.load('dino'), 0, await offer(dir, update), {
    phase: 'evaluate',
  });
  site.node.receiveManifest(last);
  await vi.waitFor(() => expect(evaluations(site)).toHaveLength(2), soon);
  expect(site.node.problem).toBeNull();
  const stored = site.store.evaluations.ofState('run', last.state!.sha256)[0]!;
  const announcement = site.sent.find(({ type }) => type === 'announce')!.body as {
    examples: number;
    steps: number;
  };
  return { during: evaluations(site)[0]!, end: evaluations(site)[1]!, stored, announcement };
}

describe('how often a site answers', () => {
  test.each<[SitePolicy['evaluations'], boolean, boolean]>([
    ['each-round', true, true],
    ['end', false, true],
    ['none', false, false],
  ])(
    '%s',
    async (evaluationsAllowed, inRound, atEnd) => {
      using folder = temporaryFolder();

      const { during, end } = await wholeRun(folder.dir, { evaluations: evaluationsAllowed });

      expect([during.total, end.total]).toEqual([inRound ? heldOut : 0, atEnd ? heldOut : 0]);
      expect([during.counts === undefined, end.counts === undefined]).toEqual([!inRound, !atEnd]);
    },
    timeoutMs * 2,
  );

  test(
    'exactly only once, at the end; before it in multiples of the smallest count. The number of images is rounded, too',
    async () => {
      using folder = temporaryFolder();

      const { during, end, stored, announcement } = await wholeRun(folder.dir, {}, { smallCell: 5 });

      expect(during.total).toBe(5);
      expect(during.correct % 5).toBe(0);
      expect(during.counts).toMatchObject({ perClass: null, calibration: null, scores: null });
      expect(end.total).toBe(heldOut);
      expect(end.correct).toBe(end.counts!.correct);
      expect(stored.total).toBe(heldOut);
      // 12 images in 6 steps: of the 10 that are said, two epochs take 5.
      expect(announcement).toMatchObject({ examples: 10, steps: 5 });
    },
    timeoutMs * 2,
  );
});

test.each<[string, Partial<SitePolicy>, RegExp]>([
  ['too few subjects', { minSubjects: 5 }, /at least 5 subjects in a round; this run finds 4 here/],
  ['too few in each class', { minSubjectsPerClass: 5 }, /no class of this run has so many here/],
  ['too few steps', { minSteps: 7 }, /at least 7 steps per round; this run takes 6 with the 12 images here/],
  ['too few contributors', { minContributors: 3 }, /this run is content with 1/],
])(
  'a site with %s does not train, says why to both sides, and writes it down once',
  async (_what, policy, message) => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    setPolicy(site.store, { ...openPolicy, ...policy }, 'test');
    const manifest = await firstManifest(site, folder.dir, await configOf(site));

    site.node.receiveManifest(manifest);
    await vi.waitFor(() => expect(site.node.problem?.message).toMatch(message), soon);
    site.node.receiveManifest(manifest);

    expect(site.node.problem!.code).toBe('POLICY_REFUSED');
    await vi.waitFor(() => expect(reasons(site)).toEqual([site.node.problem!.message]));
    expect(site.sent.map(({ type }) => type)).not.toContain('announce');
    const refusals = site.store.audit.page().filter(({ action }) => action === 'manifest-refused');
    expect(refusals).toMatchObject([{ details: { runId: 'run', code: 'POLICY_REFUSED' } }]);
    // A person may think again.
    setPolicy(site.store, openPolicy, 'test');
    site.node.decided();
    await vi.waitFor(() => expect(site.sent.map(({ type }) => type)).toContain('announce'), soon);
    expect(site.node.problem).toBeNull();
  },
  timeoutMs,
);

/** Each draw of noise hides less: of nine, the mean has a third of it. */
test(
  'the coordinator cannot have noise of a round drawn again by asking for what the site refuses in between',
  async () => {
    using folder = temporaryFolder();
    await using site = await openLoneSite(folder.dir);
    const privacy = { at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const;
    const first = await firstManifest(site, folder.dir, await configOf(site, { privacy }));
    const announcements = () => site.sent.filter(({ type }) => type === 'announce');
    site.node.receiveManifest(first);
    await vi.waitFor(() => expect(announcements()).toHaveLength(1), soon);

    site.node.receiveManifest({ ...first, phase: 'evaluate', contributors: 0 });
    await vi.waitFor(() => expect(site.node.activity).toBe('refused'), soon);
    site.node.receiveManifest(first);
    const ended = () => expect(['waiting', 'uploading']).toContain(site.node.activity);
    await vi.waitFor(() => expect(site.node.activity).not.toBe('refused'), soon);
    await vi.waitFor(ended, soon);

    expect(announcements()).toHaveLength(1);
    expect(site.store.roundSites.get('run', 0, 'site')).toMatchObject({ status: 'rejected' });
  },
  timeoutMs,
);

/** A loss has no noise, and who crafts the model decides which image makes it. */
test.each([true, false])(
  'a run with noise at the site (%s) hears its losses only without it',
  async (noisy) => {
    using folder = temporaryFolder();
    const losses: (number | null)[] = [];
    const ports = { sendProgress: ({ loss }: ProgressBody) => void losses.push(loss) };
    await using site = await openLoneSite(folder.dir, { ports });
    const privacy = noisy ? ({ at: 'site', clipNorm: 1, noiseMultiplier: 1, delta: 1e-5 } as const) : null;

    site.node.receiveManifest(await firstManifest(site, folder.dir, await configOf(site, { privacy })));
    const announced = () => site.sent.find(({ type }) => type === 'announce');
    await vi.waitFor(() => expect(announced()).toBeDefined(), soon);

    const { meanLoss } = announced()!.body as AnnounceBody;
    expect(losses.length).toBeGreaterThan(0);
    expect([...losses, meanLoss].map((loss) => loss === null)).toEqual(Array(losses.length + 1).fill(noisy));
    // The site itself knows.
    expect(site.store.roundSites.get('run', 0, 'site')!.meanLoss).toBeGreaterThan(0);
  },
  timeoutMs,
);
