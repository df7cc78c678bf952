/** A run in trouble waits, says why, and goes on; nothing of it is lost, and no site pays for the coordinator's disk. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { pauseAfter, troubleOf } from '../../core/coordinator/trouble.ts';
import { AppError, errorTable } from '../../core/shared/errors.ts';
import { sha256 } from '../../core/shared/hash.ts';
import type { BlobStore } from '../../core/store/blob-store.ts';
import { type LoneRun, openLoneRun, runId } from '../fixtures/lone-run.ts';

let run: LoneRun;
beforeEach(async () => {
  run = await openLoneRun(['a', 'b'], { rounds: 3, quorum: 2 });
});
afterEach(async () => {
  await run[Symbol.asyncDispose]();
});

const round = () => run.store.runs.get(runId)!.round;
const statusOf = (siteId: string, of = 0) => run.store.roundSites.get(runId, of, siteId)?.status;
const flip = (blobs: BlobStore, hash: string) => {
  chmodSync(blobs.path(hash), 0o600);
  writeFileSync(blobs.path(hash), 'damaged');
};
const until = (probe: () => void) => vi.waitFor(probe, { timeout: 20_000, interval: 50 });

describe('an update whose bytes are damaged on the disk of the coordinator', () => {
  test('is fetched again when the round is merged, and the run ends with the same state as without the damage', async () => {
    await using other = await openLoneRun(['a', 'b'], { rounds: 3, quorum: 2 });
    const [first, second] = [await run.update(1), await run.update(2)];
    await other.deliver('a', first);
    await other.deliver('b', second);
    await until(() => expect(other.store.runs.get(runId)!.round).toBe(1));

    await run.deliver('a', first);
    flip(run.blobs, sha256(first));
    await run.deliver('b', second);

    await until(() => expect(round()).toBe(1));
    expect(run.pulled.filter((hash) => hash === sha256(first))).toHaveLength(2);
    expect(run.faults).toEqual([]);
    expect([statusOf('a'), statusOf('b')]).toEqual(['received', 'received']);
    const resultOf = (one: LoneRun) => one.store.rounds.get(runId, 0)!.resultSha256;
    expect(resultOf(run)).toBe(resultOf(other));
  });

  test('is fetched again when its file is gone', async () => {
    const update = await run.update(1);
    await run.deliver('a', update);
    rmSync(run.blobs.path(sha256(update)));
    await run.deliver('b', await run.update(2));

    await until(() => expect(round()).toBe(1));
    expect(statusOf('a')).toBe('received');
  });

  test('is not held against its site when that shows before it is accepted', async () => {
    const update = await run.update(1);
    let times = 0;
    run.onPulled = (hash) => {
      if (times++ === 0) flip(run.blobs, hash);
    };

    const receipt = await run.deliver('a', update);

    expect(receipt).toMatchObject({ accepted: true });
    expect(run.faults).toEqual([]);
  });

  test('pauses the run when the disk does it every time', async () => {
    const update = await run.update(1);
    run.onPulled = (hash) => flip(run.blobs, hash);
    void run.deliver('a', update);
    await until(() => expect(run.engine.paused).toMatchObject({ kind: 'person' }));
    expect(run.engine.paused!.failure).toMatchObject({ code: 'BLOB_CORRUPT' });
    run.onPulled = () => {};
    await run.engine.goOn();
    await run.announce('a', update);
    await until(() => expect(statusOf('a')).toBe('received'));
  });
});

describe('a disk that is full when a round is merged', () => {
  test.each([
    ['only for large files', false],
    ['also for the reason why the run waits', true],
  ])(
    'pauses the run, %s; when there is space again it goes on to the same result',
    async (_, isAlsoDatabase) => {
      let isFull = false;
      const full = () => new AppError('DISK_FULL', 'The disk that holds the data folder is full.');
      const put = run.blobs.put.bind(run.blobs);
      vi.spyOn(run.blobs, 'put').mockImplementation(async (...given) => {
        if (isFull && given[0].length > 1) throw full();
        return put(...given);
      });
      const update = run.store.runs.update.bind(run.store.runs);
      vi.spyOn(run.store.runs, 'update').mockImplementation((id, change) => {
        if (isFull && isAlsoDatabase) throw full();
        return update(id, change);
      });
      const [first, second] = [await run.update(1), await run.update(2)];
      await run.deliver('a', first);
      run.onPulled = () => {
        isFull = true;
      };

      await run.deliver('b', second);
      await until(() => expect(run.engine.paused).toMatchObject({ kind: 'person', retryAt: null }));
      expect(run.engine.paused!.failure!.action).toMatch(/Free some space .*"anneal coordinator resume run"/);
      expect(run.engine.manifest()).toMatchObject({ phase: 'train', round: 0 });
      expect(run.engine.manifest().paused).toMatch(/a person has to mend/);
      expect(run.store.runs.get(runId)).toMatchObject({ status: 'running', finishedAt: null });
      expect(run.store.rounds.get(runId, 0)!.status).toBe('aggregating');

      isFull = false;
      await run.engine.goOn();
      expect(round()).toBe(1);
      expect([run.engine.paused, run.engine.manifest().paused]).toEqual([null, null]);
      expect(run.store.rounds.get(runId, 0)).toMatchObject({ status: 'closed', contributors: 2 });
    },
  );
});

describe('a paused run', () => {
  const evaluation = (stateSha256: string) =>
    ({ type: 'evaluation', body: { runId, stateSha256, correct: 0, total: 0 } }) as const;

  test('takes nothing, loses nothing, and its deadline waits', async () => {
    const before = run.store.rounds.get(runId, 0)!;
    await run.engine.pause();
    const late = new Date(Date.parse(before.deadlineAt!) + 3_600_000);
    const update = await run.update(1);

    expect(await run.engine.received('a', evaluation(before.startSha256))).toBe(false);
    expect(run.store.evaluations.ofState(runId, before.startSha256)).toEqual([]);
    await run.announce('a', update);
    expect(run.pulled).toEqual([]);

    vi.useFakeTimers({ now: late, toFake: ['Date'] });
    try {
      await run.engine.goOn();
      const { deadlineAt } = run.store.rounds.get(runId, 0)!;
      expect(Date.parse(deadlineAt!)).toBeGreaterThan(late.getTime() + 1_000);
      const again = await run.engine.received('a', evaluation(before.startSha256));
      expect(again).toBe(true);
      expect(run.store.evaluations.ofState(runId, before.startSha256)).toHaveLength(1);
    } finally {
      vi.useRealTimers();
    }
    await run.deliver('a', update);
    await until(() => expect(statusOf('a')).toBe('received'));
  });

  test('that tries again by itself does so, and asks for a person in the end', async () => {
    let left = 2;
    const put = run.blobs.put.bind(run.blobs);
    vi.spyOn(run.blobs, 'put').mockImplementation(async (...given) => {
      if (round() === 0 && run.store.rounds.get(runId, 0)!.status === 'aggregating' && left-- > 0)
        throw new Error('nobody knows why');
      return put(...given);
    });
    await run.deliver('a', await run.update(1));
    await run.deliver('b', await run.update(2));

    await until(() => expect(round()).toBe(1));
    expect(left).toBeLessThan(0);
    const acts = run.store.audit.page({ limit: 500 }).map(({ action }) => action);
    expect(acts.filter((action) => action === 'run-paused').length).toBe(2);
    expect(acts.filter((action) => action === 'run-continued').length).toBe(2);
  });
});

describe('the table of errors', () => {
  const codes = Object.keys(errorTable) as (keyof typeof errorTable)[];
  test('each says what to do, and how the run is resumed afterwards unless that is in vain', () => {
    for (const code of codes) {
      const { kind, failure } = troubleOf(new AppError(code, 'x'), 'run-7');
      if (kind === 'give-up') expect(failure.action, code).toBe(errorTable[code].action);
      else expect(failure.action, code).toContain('"anneal coordinator resume run-7"');
      expect(failure.code).toBe(code);
    }
  });

  test('only what comes back however often one tries ends a run: whatever has no row waits for a person', () => {
    const codes = Object.keys(errorTable) as (keyof typeof errorTable)[];
    const kindOf = (thrown: unknown) => troubleOf(thrown, runId).kind;
    const final = codes.filter((code) => kindOf(new AppError(code, 'Something.')) === 'give-up');

    expect(final.sort()).toEqual(['CONFIG_INVALID', 'MESSAGE_INVALID']);
    expect(kindOf(new AppError('SHAPE_MISMATCH', 'Something.'))).toBe('person');
    expect([new TypeError('a bug'), 'no error at all', null].map(kindOf)).toEqual([
      'retry',
      'retry',
      'retry',
    ]);
  });

  test('what the system refuses waits for a person; what may pass is tried again, later and later, and not for ever', () => {
    const refused = troubleOf(Object.assign(new Error('no'), { code: 'EACCES' }), 'run');
    expect([refused.kind, refused.failure.code]).toEqual(['person', 'DATA_FOLDER_UNUSABLE']);

    const now = new Date('2026-11-22T12:00:00.000Z');
    const passing = troubleOf(new Error('x'), 'run');
    const waits = Array.from({ length: 9 }, (_, tries) => pauseAfter(passing, tries, now).retryAt);
    const seconds = waits.map((at) => at && (Date.parse(at) - now.getTime()) / 1000);
    expect(seconds).toEqual([2, 4, 8, 16, 32, 64, 128, 256, null]);
  });
});
