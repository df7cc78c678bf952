import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, test, vi } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { decodeLocalParameters } from '../../core/site/local-parameters.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { decodeUpdate, encodeGlobalState } from '../../core/strategy/wire/wire.ts';
import { type ManifestBody, writtenManifest } from '../../core/transport/messages.ts';
import { type LoneSite, offer, openLoneSite } from '../fixtures/lone-site.ts';
import { manifestOf } from '../fixtures/manifests.ts';
import { shapeClasses } from '../fixtures/shape-crops.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const child = fileURLToPath(new URL('../fixtures/site-child.ts', import.meta.url));
const timeoutMs = 60_000;

/** Factors B, the head and what rounding took stay at the site. */
async function keepingConfig({ catalogue }: LoneSite): Promise<RunConfig> {
  const { training } = defaultRunConfig({ baseId: '', baseSha256: '', classes: [] });
  return defaultRunConfig({
    baseId: 'dino',
    baseSha256: await catalogue.identify('dino'),
    classes: shapeClasses,
    strategy: 'fedsa-lora',
    localHead: true,
    wire: { up: 'int8', down: 'fp16', errorFeedback: true },
    rounds: 3,
    rMax: 2,
    // Counts leave as they are, so that a withdrawal can be seen in them.
    smallCell: 1,
    training: { ...training, epochs: 2, batchSize: 4, learningRate: 0.02 },
  });
}

async function contextOf({ catalogue }: LoneSite, config: RunConfig, round: number) {
  const base = await catalogue.load('dino');
  const plan = getStrategy(config.strategy).configureTrain(config, round);
  return { config, plan, base, initial: createRunState(config, base) };
}

async function firstManifest(site: LoneSite, dir: string, config: RunConfig): Promise<ManifestBody> {
  const context = await contextOf(site, config, 0);
  return manifestOf(config, context.base, 0, await offer(dir, encodeGlobalState(context.initial, context)));
}

/** Waits for the round's update, and takes it as the next global state, as with a single site. */
async function finishRound(
  site: LoneSite,
  dir: string,
  { config, round }: ManifestBody,
): Promise<ManifestBody> {
  const announced = await announcement(site, round);
  const context = await contextOf(site, config, round);
  const update = await site.blobs.read(announced.updateSha256!);
  const state = decodeUpdate(update, 'update', { ...context, start: context.initial });
  return manifestOf(config, context.base, round + 1, await offer(dir, encodeGlobalState(state, context)));
}

function announcement({ store, node }: LoneSite, round: number) {
  return vi.waitFor(
    () => {
      expect(node.problem).toBeNull();
      const row = store.roundSites.get('run', round, 'site');
      expect(row?.status).toBe('announced');
      return row!;
    },
    { timeout: timeoutMs, interval: 50 },
  );
}

async function killAt(dir: string, point: string): Promise<void> {
  const process_ = spawn(process.execPath, [child, dir, point], { stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = once(process_, 'exit');
  for await (const line of createInterface(process_.stdout)) {
    expect(line).toBe(point);
    process_.kill('SIGKILL');
    break;
  }
  await gone;
  expect(process_.signalCode).toBe('SIGKILL');
}

test(
  'a site killed at any point of a round does it again from what the round before had left',
  async () => {
    using folder = temporaryFolder();
    const dir = path.join(folder.dir, 'reference');
    const points = ['training', 'stored', 'announced'];
    let next: ManifestBody;
    {
      await using site = await openLoneSite(dir);
      const manifest = await firstManifest(site, dir, await keepingConfig(site));
      site.node.receiveManifest(manifest);
      next = await finishRound(site, dir, manifest);
      // So that the child finds it without a coordinator.
      await site.blobs.put(await createBlobStore(path.join(dir, 'coordinator')).read(next.state!.sha256));
    }
    await writeFile(path.join(dir, 'manifest.json'), JSON.stringify(writtenManifest(next)));
    for (const copy of [...points, 'forgotten'])
      await cp(dir, path.join(folder.dir, copy), { recursive: true });
    const finished = await resume(dir, next);
    expect(finished.memories.map(({ round }) => round)).toEqual([0, 1]);
    const forgotten = await resume(path.join(folder.dir, 'forgotten'), next, ({ store }) =>
      store.siteMemory.remove('run', 0),
    );
    expect(forgotten.updateSha256).not.toBe(finished.updateSha256);

    for (const point of points) {
      const own = path.join(folder.dir, point);
      await killAt(own, point);
      const resumed = await resume(own, next);

      expect(resumed, point).toEqual(finished);
    }
  },
  timeoutMs * 2,
);

/** Opens the site again, finishes the round, and gives what is there then. */
async function resume(dir: string, manifest: ManifestBody, before: (site: LoneSite) => void = () => {}) {
  await using site = await openLoneSite(dir);
  before(site);
  site.node.receiveManifest(manifest);
  const { updateSha256, examples, meanLoss } = await announcement(site, manifest.round);
  const memories = site.store.siteMemory.list().map(({ round, sha256 }) => ({ round, sha256 }));
  for (const { sha256 } of memories) expect(site.blobs.has(sha256)).toBe(true);
  return { updateSha256, examples, meanLoss, memories };
}

describe("a site's local parameters", () => {
  test(
    'is what trained and did not travel; it goes with a refused update and with a withdrawn consent',
    async () => {
      using folder = temporaryFolder();
      await using site = await openLoneSite(folder.dir);
      const { store, blobs, node } = site;
      const config = await keepingConfig(site);
      const manifest = await firstManifest(site, folder.dir, config);
      const { initial } = await contextOf(site, config, 0);

      node.receiveManifest(manifest);
      const first = await announcement(site, 0);
      const [memory] = store.siteMemory.list();
      const own = decodeLocalParameters(await blobs.read(memory!.sha256), 'own', initial);

      const modules = [...initial.lora.keys()];
      expect([...own.kept.keys()].sort()).toEqual(
        ['head.bias', 'head.weight', ...modules.map((module) => `lora.${module}.b`)].sort(),
      );
      expect([...own.residual!.keys()].sort()).toEqual(
        modules.map((module) => `lora.${module}.lora_A.weight`).sort(),
      );
      expect(own.kept.get('head.weight')).not.toEqual(initial.head.get('weight'));
      // The personal model was not there when the state was evaluated; nothing else leaves but the update.
      expect(site.sent.map(({ type }) => type)).toEqual(['evaluation', 'announce']);

      store.consentEvents.append({
        subjectId: store.subjects.byPseudonym('P0')!.id,
        kind: 'withdraw',
        purpose: 'federated-training',
        documentVersion: null,
        validFrom: new Date().toISOString(),
        expiresAt: null,
        recordedBy: 'test',
      });
      // The site hears of it in a microtask, before any other work goes on.
      await Promise.resolve();
      expect(store.adapters.list({ kind: 'update' })).toEqual([]);
      expect(store.siteMemory.list()).toEqual([]);
      const second = await announcement(site, 0);
      expect(second.updateSha256).not.toBe(first.updateSha256);
      expect(second.examples).toBeLessThan(first.examples!);
      await vi.waitFor(() => expect(blobs.has(memory!.sha256)).toBe(false));
      const [anew] = store.siteMemory.list();
      expect(anew!.sha256).not.toBe(memory!.sha256);

      node.receiveReceipt({
        runId: 'run',
        round: 0,
        updateSha256: second.updateSha256!,
        accepted: false,
        reason: 'It came too late.',
        kind: 'final',
      });
      expect(store.siteMemory.list()).toEqual([]);
    },
    timeoutMs,
  );

  test(
    'is not made by a site that is not drawn: it only evaluates, until it is drawn for one that went away',
    async () => {
      using folder = temporaryFolder();
      await using site = await openLoneSite(folder.dir);
      const config = await keepingConfig(site);
      const manifest = await firstManifest(site, folder.dir, config);

      site.node.receiveManifest({ ...manifest, participants: ['another'] });
      await vi.waitFor(() => expect(site.sent.map(({ type }) => type)).toEqual(['evaluation']), {
        timeout: timeoutMs,
      });
      await vi.waitFor(() => expect(site.node.activity).toBe('waiting'));
      expect(site.node.notice).toContain('drew other sites for round 1');
      expect(site.store.roundSites.get('run', 0, 'site')).toBeNull();

      site.node.receiveManifest({ ...manifest, participants: ['another', 'site'] });
      expect(site.node.notice).toBeNull();
      await announcement(site, 0);
      expect(site.sent.map(({ type }) => type)).toEqual(['evaluation', 'announce']);
    },
    timeoutMs,
  );
});
