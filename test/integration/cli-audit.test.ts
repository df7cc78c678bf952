/** `anneal audit …` as an auditor and a site's staff use it: real commands, and a bundle that is verified without a data folder. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect, test } from 'vitest';
import { openPolicy } from '../../core/simulation/policies.ts';
import { openCommandLine } from '../fixtures/command-line.ts';
import { startFederation, startShortRun, until } from '../fixtures/federation.ts';

test('evidence of a site that trained is verified on another machine, with the key that the coordinator knows', async () => {
  await using line = openCommandLine();
  const anneal = (...args: string[]) => line.anneal('no-data-here', ...args);
  await using federation = await startFederation(1, { policy: openPolicy });
  const [{ agent }] = federation.sites as [(typeof federation.sites)[0]];
  await startShortRun(federation, { rounds: 1, quorum: 1, epochs: 1 });
  await until('the run to finish', async () => (await federation.run()).status === 'finished');
  const [one] = await agent.client.site.subjects.query();
  await agent.client.consent.withdraw.mutate({ pseudonym: one!.pseudonym });
  const [bundle, registry] = ['site.jsonl', 'coordinator.jsonl'].map((name) => path.join(line.folder, name));

  const written = await anneal('audit', 'export', '--out', bundle!, '--data', agent.dataFolder, '--json');
  await anneal('audit', 'export', '--out', registry!, '--data', federation.coordinator.dataFolder);
  const verified = await anneal('audit', 'verify', bundle!, '--coordinator', registry!, '--json');
  const own = await anneal('audit', 'verify', '--data', agent.dataFolder);

  const report = JSON.parse(verified.stdout);
  expect(report.checks.filter(({ ok }: { ok: boolean | null }) => ok === false)).toEqual([]);
  expect(report.checks.find(({ name }: { name: string }) => name === 'key').ok).toBe(true);
  expect(report.bundle.head).toBe(JSON.parse(written.stdout).head);
  expect(verified.code).toBe(0);
  expect(existsSync(path.join(line.folder, 'no-data-here'))).toBe(false);
  expect(own.stdout).toContain('The audit trail is whole');
  const text = readFileSync(bundle!, 'utf8');
  for (const { pseudonym } of await agent.client.site.subjects.query()) expect(text).not.toContain(pseudonym);

  // A changed file, and a data folder that somebody has edited: exit code 1.
  writeFileSync(registry!, text.replace('"purpose"', '"Purpose"'));
  const broken = await anneal('audit', 'verify', registry!, '--json');
  expect(JSON.parse(broken.stdout)).toMatchObject({ error: { code: 'EVIDENCE_INVALID' } });
  expect(broken.code).toBe(1);
  await agent.stop();
  const db = new Database(path.join(agent.dataFolder, 'anneal.db'));
  db.exec("DROP TRIGGER consent_events_no_delete; DELETE FROM consent_events WHERE kind = 'withdraw'");
  db.close();
  const tampered = await anneal('audit', 'verify', '--data', agent.dataFolder);
  expect([tampered.code, tampered.stdout]).toEqual([
    1,
    expect.stringContaining('is not the one that the audit trail recorded'),
  ]);
}, 360_000);
