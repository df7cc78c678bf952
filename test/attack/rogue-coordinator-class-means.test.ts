/**
 * A rogue coordinator that wants a patient's face template from the round of class means, on every base model, each with its own
 * alignment and input size. Each attack is made twice, once at a site without the rule that stops it: what it gains there
 * says that the measure measures.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SitePolicy } from '../../core/config/site-policy.ts';
import { demoLabels, generateDemoFaces } from '../../core/data/demo-faces.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { decodeUpdate } from '../../core/strategy/wire/wire.ts';
import { attackedBases } from './lib/bases.ts';
import { cosineDistance } from './lib/measures.ts';
import { meanOf, pixelsOf, templatesOf } from './lib/rebuild.ts';
import {
  type Ask,
  configOf,
  newRun,
  type RogueCoordinator,
  startRogueCoordinator,
} from './lib/rogue-coordinator.ts';
import { openPolicy, startVictim, type Victim } from './lib/victim.ts';

const rare = 'rare';
const [common, other] = demoLabels as [string, string];
const bases = await attackedBases();

let coordinator: RogueCoordinator;
let victim: Victim;
beforeAll(async () => {
  coordinator = await startRogueCoordinator();
  const people = { imagesPerSubject: 1, subjectsPerSite: 56, heldOutShare: 0.5 };
  victim = await startVictim(coordinator, { rareLabel: rare, ...people });
});
afterAll(async () => {
  await victim?.[Symbol.asyncDispose]();
  await coordinator?.[Symbol.asyncDispose]();
});

/** As near to what it wants as the default policy lets a run come. */
const allowed = {
  ...({ strategy: 'head-only', robust: { rule: 'mean' }, headStart: 'prototypes', gallery: 'off' } as const),
  ...{ rounds: 2, quorum: 3, smallCell: 5, training: { batchSize: 4, epochs: 10 } },
};
const everything = { ...allowed, quorum: 1, smallCell: 1 };

interface Sums {
  /** Of each class: the sum itself, the divisor taken out again. Null where the site sent nothing. */
  rows: Float32Array[] | null;
  reason: string | null;
}

/** @returns what the round of class means of a new run gives away */
async function sums(base: BaseModel, settings: Ask['settings']): Promise<Sums> {
  const runId = newRun();
  await coordinator.ask({ runId, base, settings });
  const answer = await Promise.race([
    coordinator.hears(runId, 'announce', 60_000),
    coordinator.hears(runId, 'declined', 60_000),
  ]);
  if (answer.type === 'declined') return { rows: null, reason: answer.body.reason! };
  const config = configOf({ base, settings });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const context = { config, plan, base, start: createRunState(config, base) };
  const state = decodeUpdate(await coordinator.fetch(answer), 'update', context);
  const { dims, data } = state.head.get('weight')!;
  const [classes, size] = dims as [number, number];
  const divisor = Number(answer.body['examples']);
  const row = (index: number) => data.slice(index * size, (index + 1) * size).map((value) => value * divisor);
  return { rows: Array.from({ length: classes }, (_, index) => row(index)), reason: null };
}

const length = (row: Float32Array) => Math.hypot(...row);
const minus = (one: Float32Array, two: Float32Array) => one.map((value, index) => value - two[index]!);

/** A patient of a class joins: one row of other people's CSV, with an image of its own. @returns its pseudonym */
let joined = 0;
async function somebodyJoins(label: string): Promise<void> {
  joined += 1;
  const outFolder = path.join(victim.dataFolder, '..', `joined-${joined}`);
  const people = { subjectsPerSite: 8, imagesPerSubject: 1, heldOutShare: 0, withdrawnPerSite: 0 };
  const [images] = await generateDemoFaces({ outFolder, sites: 1, seed: 100 + joined, ...people });
  const { labelsFile, imagesFolder } = images!;
  const [head, ...rows] = (await readFile(labelsFile, 'utf8')).trim().split('\n');
  const columns = rows.map((row) => row.split(',')).find((row) => row[2] === label && row[3] === 'train')!;
  columns[1] = `joined-${joined}`;
  await writeFile(labelsFile, `${head}\n${columns.join(',')}\n`);
  await victim.agent.client.site.import.mutate({ imagesFolder, labelsFile, alreadyCropped: true });
}

describe.each(bases)('with $id', ({ install, allowed: rest }) => {
  let base: BaseModel;
  let guarded: Partial<SitePolicy>;
  const templates = async (label: string) =>
    templatesOf(base, await pixelsOf(base, victim.dataFolder, label, 'train'));
  beforeAll(async () => {
    base = await install(victim);
    guarded = rest;
  });

  test('the only patient of a class, of whom there is one image, leaves no sum', async () => {
    const [own] = await templates(rare);

    await victim.setPolicy(openPolicy);
    const without = await sums(base, { ...everything, classes: [rare, common] });
    await victim.setPolicy(guarded);
    const refused = await sums(base, { ...everything, classes: [rare, common] });
    const left = await sums(base, { ...allowed, classes: [rare, common] });

    expect(cosineDistance(without.rows![0]!, own!)).toBeLessThan(1e-4);
    expect(left.reason).toBe(null);
    expect(refused.rows).toBe(null);
    expect(refused.reason).toMatch(/^The policy of this site .+\.$/);
    expect(length(left.rows![0]!)).toBe(0);
    expect(length(left.rows![1]!)).toBeGreaterThan(0);
  });

  test('a sum of enough people is nobody: no single template is much nearer than their mean is', async () => {
    await victim.setPolicy(guarded);
    const people = await templates(common);
    const mean = meanOf(people.map((each) => each.map((value) => value / length(each))));

    const { rows, reason } = await sums(base, { ...allowed, classes: [common, other] });

    expect(reason).toBe(null);
    expect(people.length).toBeGreaterThanOrEqual(5);
    const near = people.map((each) => cosineDistance(rows![0]!, each) / cosineDistance(mean, each));
    expect(Math.min(...near)).toBeGreaterThan(0.8);
  });

  test('the patient who joined between two runs is not their difference, whatever classes each names', async () => {
    // Without the rule: k is 1 for both, so one person is enough of a difference.
    await victim.setPolicy(openPolicy);
    const before = await sums(base, { ...everything, classes: [common, other] });
    await victim.setPolicy(guarded);
    const guardedBefore = await sums(base, { ...allowed, classes: [common, other] });
    const known = await templates(common);
    await somebodyJoins(common);
    const own = (await templates(common)).find((each) =>
      known.every((one) => cosineDistance(one, each) > 1e-6),
    )!;
    await victim.setPolicy(openPolicy);
    const after = await sums(base, { ...everything, classes: [other, common] });
    await victim.setPolicy(guarded);
    const guardedAfter = await sums(base, { ...allowed, classes: [rare, common] });

    expect(cosineDistance(minus(after.rows![1]!, before.rows![0]!), own)).toBeLessThan(1e-3);
    expect(length(guardedBefore.rows![0]!)).toBeGreaterThan(0);
    // The same people as before, or nobody: what is left is rounding.
    const gained = minus(guardedAfter.rows![1]!, guardedBefore.rows![0]!);
    const isNobody = length(guardedAfter.rows![1]!) === 0;
    expect(isNobody ? 0 : length(gained)).toBeLessThan(1e-4);
  });
});
