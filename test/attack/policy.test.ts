/** A policy that somebody else than the site's people weakens: an update of the app, or a hand in the data folder. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { sitePolicySchema } from '../../core/config/site-policy.ts';
import { demoLabels } from '../../core/data/demo-faces.ts';
import type { BaseModel } from '../../core/models/base-model.ts';
import { hashJson } from '../../core/shared/hash.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { type Ask, newRun, type RogueCoordinator, startRogueCoordinator } from './lib/rogue-coordinator.ts';
import { leftAfter, openPolicy, startVictim, type Victim } from './lib/victim.ts';

let coordinator: RogueCoordinator;
let victim: Victim;
let base: BaseModel;
beforeAll(async () => {
  coordinator = await startRogueCoordinator();
  base = await loadBaseModel('face-resnet-128');
});
beforeEach(async () => {
  victim = await startVictim(coordinator, { subjectsPerSite: 12, imagesPerSubject: 1 });
});
afterEach(() => victim?.[Symbol.asyncDispose]());
afterAll(() => coordinator?.[Symbol.asyncDispose]());

/** What the default policy refuses, and an open one does not. */
const settings: Ask['settings'] = {
  ...{ strategy: 'head-only', classes: [...demoLabels], rounds: 1, quorum: 1, smallCell: 1 },
  training: { batchSize: 1, epochs: 1, clipNorm: 0 },
};

/** @returns why nothing left */
async function expectNothing(code: string): Promise<string> {
  const runId = newRun();
  await coordinator.ask({ runId, base, settings });
  const { reason } = (await coordinator.hears(runId, 'declined', 15_000)).body;
  expect(await leftAfter(coordinator, runId)).toEqual({ updates: 0, evaluations: 0, steps: 0 });
  expect(await victim.problem()).toMatchObject({ code, message: reason });
  const details = expect.objectContaining({ runId, code, reason });
  expect(await victim.newAudit()).toContainEqual(
    expect.objectContaining({ action: 'manifest-refused', details }),
  );
  return reason!;
}

/** A later version of the app, in which every smallest number is 1 by default. */
function laterVersion(): { program: string } & Disposable {
  const root = path.join(import.meta.dirname, '../..');
  const folder = mkdtempSync(path.join(tmpdir(), 'anneal-later-'));
  cpSync(path.join(root, 'core'), path.join(folder, 'core'), { recursive: true });
  cpSync(path.join(root, 'package.json'), path.join(folder, 'package.json'));
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  const file = path.join(folder, 'core/config/site-policy.ts');
  const weaker = readFileSync(file, 'utf8')
    .replaceAll(/least\(\d+/g, 'least(1')
    .replace('z.boolean().default(true)', 'z.boolean().default(false)');
  writeFileSync(file, weaker);
  return {
    program: path.join(folder, 'core/agent/main.ts'),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

test('an update of the app with weaker defaults changes nothing at a site that is there', async () => {
  using later = laterVersion();
  const before = await victim.agent.client.site.policy.query();
  expect(Object.keys(before.policy).sort()).toEqual(Object.keys(sitePolicySchema.shape).sort());

  await victim.restart({ program: later.program });

  const { policy, defaults, version } = await victim.agent.client.site.policy.query();
  expect(defaults).toMatchObject({ minSubjects: 1, minSteps: 1, minBatchSize: 1, requireClipping: false });
  expect({ policy, version }).toEqual({ policy: before.policy, version: before.version });
  expect(await expectNothing('POLICY_REFUSED')).toMatch(/^The policy of this site asks for .+\.$/);
});

const row = z.object({ policy: z.string() });

/** With the hash that belongs to it, as a program would that knows Anneal's tables but not its audit trail. */
function rewrite(dataFolder: string, asVersion: 'same' | 'next'): void {
  const db = openSqlite(path.join(dataFolder, 'anneal.db'));
  const stored = db.get(row, 'SELECT policy FROM site_policies ORDER BY version DESC LIMIT 1')!;
  const policy = { ...JSON.parse(stored.policy), ...openPolicy };
  const values = { policy: JSON.stringify(policy), sha256: hashJson(policy) };
  db.run(
    asVersion === 'same'
      ? 'UPDATE site_policies SET policy = @policy, sha256 = @sha256'
      : `INSERT INTO site_policies SELECT version + 1, @policy, @sha256, 'update', created_at FROM site_policies`,
    values,
  );
  db.close();
}

test.each(['same', 'next'] as const)(
  'a policy rewritten in the database (%s version) stops the site',
  async (which) => {
    await victim.restart({ meanwhile: (dataFolder) => rewrite(dataFolder, which) });

    expect(await expectNothing('POLICY_CHANGED')).toBe(
      'The policy of this site was changed outside of Anneal.',
    );
  },
);
