/** A run that this version cannot read, from a database of any earlier version, stands in nobody's way. */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AppError } from '../../core/shared/errors.ts';
import { migrate, migrations } from '../../core/store/migrations.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { createMemoryBroker } from '../../core/transport/memory-link.ts';
import { base, insertRun, type LoneCoordinator, startLoneCoordinator } from '../fixtures/lone-coordinator.ts';
import { temporaryFolder } from '../fixtures/store.ts';

let folder: ReturnType<typeof temporaryFolder>;
let coordinator: LoneCoordinator | null = null;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(async () => {
  await coordinator?.[Symbol.asyncDispose]();
  coordinator = null;
  folder[Symbol.dispose]();
});

const early = JSON.stringify({ strategy: 'sa-fedlora', rounds: 9, alpha: 1 });

/** The database of a version, with one run and a round of it. */
function writeOldDatabase(version: number, config: string, status: string, failure: string | null): void {
  const db = openSqlite(path.join(folder.dir, 'anneal.db'));
  migrate(db, migrations.slice(0, version));
  const at = '2025-01-01T00:00:00.000Z';
  db.run(
    `INSERT INTO runs (id, config, status, round, created_at, failure) VALUES ('old', @config, @status, 0, @at, @failure)`,
    { config, status, at, failure },
  );
  db.run(
    `INSERT INTO rounds (run_id, round, stage, rank, status, trainable_parameters, start_sha256, opened_at)
     VALUES ('old', 0, 'heating', 4, 'open', 1, @sha, @at)`,
    { sha: 'a'.repeat(64), at },
  );
  db.run(
    `INSERT INTO round_sites (run_id, round, site_id, status, updated_at) VALUES ('old', 0, 'site-a', 'working', @at)`,
    { at },
  );
  db.close();
}

function start(load?: () => Promise<typeof base>): LoneCoordinator {
  coordinator = startLoneCoordinator(createMemoryBroker(), folder.dir, ['site-a'], load && { load });
  return coordinator;
}

async function goOn({ node, open }: LoneCoordinator): Promise<void> {
  await node.load();
  await open();
  await node.resume();
}

const settings = { baseId: base.id, classes: ['a', 'b'], quorum: 1, rounds: 4 };

describe('a run in progress that cannot be read', () => {
  const versions = migrations.map(({ version }) => version);
  test.each(versions)(
    'in a database of version %i: the coordinator starts, shows it as such, and can start another',
    async (version) => {
      writeOldDatabase(version, early, 'running', null);
      const { node, store } = start();

      await goOn(coordinator!);

      const overview = await node.overview();
      expect(overview.current).toBeNull();
      expect(overview.runs).toMatchObject([
        {
          id: 'old',
          status: 'paused',
          strategy: 'unknown',
          unreadable: expect.stringMatching(/earlier version/),
        },
      ]);
      expect(overview.runs[0]!.pause).toMatchObject({ kind: 'person', failure: { code: 'RUN_UNREADABLE' } });
      expect(store.roundMembers.of('old', 0)).toEqual(version < 12 ? ['site-a'] : []);
      await expect(node.runDetail('old')).rejects.toMatchObject({ code: 'RUN_UNREADABLE' });
      await expect(node.resumeRun('old')).rejects.toMatchObject({ code: 'RUN_UNREADABLE' });
      await expect(node.startRun(settings)).rejects.toMatchObject({ code: 'RUN_CONFLICT' });

      expect((await node.stopRun('old', 'anna')).status).toBe('stopped');
      const { id } = await node.startRun(settings);
      expect((await node.overview()).runs.map((run) => run.id)).toEqual([id, 'old']);
      expect(JSON.parse(JSON.stringify(store.runs.get('old')!.config))).toEqual(JSON.parse(early));
    },
  );

  test.each([
    ['settings that are no JSON', '{"strategy": "sa-fed', null],
    ['a failure of a code that nobody knows', early, '{"code":"GONE","message":"x","action":"y"}'],
    ['a failure that is no JSON', early, '}{'],
  ])('is listed with %s, beside others that can be read', async (_, config, failure) => {
    writeOldDatabase(1, config, 'failed', failure);
    const { node } = start();
    await insertRun(coordinator!, 'new');

    await goOn(coordinator!);

    const { runs, current } = await node.overview();
    expect(runs.map(({ id, unreadable }) => [id, unreadable === null])).toEqual([
      ['new', true],
      ['old', false],
    ]);
    expect(current).toMatchObject({ id: 'new', status: 'waiting', pause: null });
  });
});

test('a run whose base model is missing waits for it, and goes on when it is there again', async () => {
  let isThere = false;
  const { node, store } = start(async () => {
    if (!isThere) throw new AppError('MODEL_UNKNOWN', 'The base model is not installed.');
    return base;
  });
  await insertRun(coordinator!, 'run');

  await goOn(coordinator!);

  const [run] = (await node.overview()).runs;
  expect(run).toMatchObject({ id: 'run', status: 'paused', unreadable: null });
  expect(run!.pause!.failure).toMatchObject({
    code: 'MODEL_UNKNOWN',
    action: expect.stringMatching(/Import the base model.*coordinator resume run/),
  });
  await expect(node.resumeRun('run')).rejects.toMatchObject({ code: 'MODEL_UNKNOWN' });

  isThere = true;
  expect(await node.resumeRun('run')).toMatchObject({ status: 'waiting', pause: null });
  expect(store.runs.get('run')).toMatchObject({ status: 'waiting', pause: null });
  await expect(node.resumeRun('run')).rejects.toMatchObject({ code: 'RUN_CONFLICT' });
});

describe('a run that failed in an older version', () => {
  const failure = { code: 'DISK_FULL', message: 'x', action: 'y' } as const;
  async function leaveFailed() {
    const opened = start();
    await insertRun(opened, 'run');
    opened.store.runs.update('run', { status: 'failed', failure, finishedAt: '2026-11-22T12:00:00.000Z' });
    await goOn(opened);
    return opened;
  }

  test('goes on where it was', async () => {
    const { node, store } = await leaveFailed();

    expect(await node.resumeRun('run', 'anna')).toMatchObject({ status: 'waiting', failure: null });
    expect(store.runs.get('run')).toMatchObject({ finishedAt: null });
  });

  test('does not when its state is gone, or another run was started since', async () => {
    const { node, store, blobs } = await leaveFailed();
    const [state] = store.adapters.list({ runId: 'run', kind: 'global' });
    await blobs.delete(state!.sha256);
    await expect(node.resumeRun('run')).rejects.toMatchObject({ code: 'NOT_FOUND' });

    await insertRun(coordinator!, 'other');
    await expect(node.resumeRun('run')).rejects.toMatchObject({ code: 'RUN_CONFLICT' });
  });
});
