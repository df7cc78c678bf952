/** A trainer process that is killed with SIGKILL: what it had done is not lost, and nothing else changes. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTrainer, type TrainerHandle } from '../../core/engine/trainer.ts';
import type { Example, TrainJob, TrainProgress, TrainResult } from '../../core/engine/trainer-protocol.ts';
import { shapeJob, writeShapeCrops, writeShapeStart } from '../fixtures/shape-crops.ts';

let folder: string;
let stateFile: string;
let examples: Example[];
/** What the job gives when nobody disturbs it. */
let undisturbed: Buffer;
let undisturbedResult: TrainResult;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-resume-'));
  stateFile = await writeShapeStart(folder, 'level-256');
  examples = await writeShapeCrops(path.join(folder, 'crops'), 4, 1);
  await using trainer = startTrainer();
  undisturbedResult = await trainer.train(jobOf('undisturbed'));
  undisturbed = await readFile(out('undisturbed'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const out = (name: string) => path.join(folder, `${name}.safetensors`);
const checkpoint = (name: string) => path.join(folder, `${name}.checkpoint`);

/** 22 steps, long enough to be killed in, with everything that has a state: augmentation, dropout, moments, warm-up, proximal pull, short batch. */
function jobOf(name: string, changes: Parameters<typeof shapeJob>[2] = {}): TrainJob {
  const { training, ...rest } = changes;
  return shapeJob({ stateFile, outFile: out(name) }, examples, {
    checkpointFile: checkpoint(name),
    checkpointSeconds: 0,
    microBatch: 3,
    ...rest,
    training: {
      epochs: 9,
      batchSize: 5,
      augment: true,
      loraDropout: 0.1,
      proximal: 0.1,
      classWeights: 'balanced',
      ...training,
    },
  });
}

/** Kills the process of a trainer once, when the run has made `step` steps. */
function killAt(step: number, trainer: TrainerHandle) {
  const seen: TrainProgress[] = [];
  let killed = false;
  return {
    seen,
    onProgress(progress: TrainProgress) {
      seen.push(progress);
      if (killed || progress.step < step) return;
      killed = true;
      process.kill(trainer.pid!, 'SIGKILL');
    },
  };
}

describe('a killed trainer process', () => {
  test('is started again and gives the very bytes that the undisturbed run gives', async () => {
    await using trainer = startTrainer({ oomKills: () => 0 });
    const { seen, onProgress } = killAt(2, trainer);

    const result = await trainer.train(jobOf('killed'), { onProgress });

    expect((await readFile(out('killed'))).equals(undisturbed)).toBe(true);
    expect(result.meanLoss).toBe(undisturbedResult.meanLoss);
    expect(result.steps).toBe(undisturbedResult.steps);
    expect(result.events.map(({ kind }) => kind)).toEqual(['restarted', 'resumed']);
    const resumedAfter = Number(result.events[1]!.from);
    expect(resumedAfter).toBeGreaterThanOrEqual(1);
    const afterwards = seen.filter(({ events }) => events?.some(({ kind }) => kind === 'resumed'));
    expect(afterwards[0]!.step).toBe(resumedAfter + 1);
    expect(undisturbedResult.events).toEqual([]);
    expect((await readdir(folder)).filter((name) => name.startsWith('killed'))).toEqual([
      'killed.safetensors',
    ]);
  });

  test('that ran out of memory is given half as many images at once', async () => {
    let kills = 7;
    await using trainer = startTrainer({ oomKills: () => kills });
    const { onProgress } = killAt(2, trainer);

    const result = await trainer.train(jobOf('memory', { microBatch: 4 }), {
      onProgress(progress) {
        kills = 8;
        onProgress(progress);
      },
    });

    expect(result.events[0]).toMatchObject({ kind: 'restarted', from: '4', to: '2' });
    expect(result.events[1]).toMatchObject({ kind: 'resumed' });
    expect(Math.abs(result.meanLoss / undisturbedResult.meanLoss - 1)).toBeLessThan(1e-3);
  });

  test('killed a second time fails its job, and the job given to another trainer goes on from there', async () => {
    const job = jobOf('twice');
    {
      await using trainer = startTrainer({ oomKills: () => 0 });
      const failing = trainer.train(job, {
        onProgress: ({ step }) => {
          if (step >= 2 && trainer.pid !== undefined) process.kill(trainer.pid, 'SIGKILL');
        },
      });
      await expect(failing).rejects.toMatchObject({ code: 'TRAINING_FAILED' });
      expect(existsSync(out('twice'))).toBe(false);
      expect(existsSync(checkpoint('twice'))).toBe(true);
    }

    await using other = startTrainer();
    const result = await other.train(job);

    expect(result.events.at(-1)).toMatchObject({ kind: 'resumed' });
    expect((await readFile(out('twice'))).equals(undisturbed)).toBe(true);
    expect(existsSync(checkpoint('twice'))).toBe(false);
  });
});

describe('a checkpoint', () => {
  /** Leaves the checkpoint of a run that was cancelled after some steps. */
  async function leaveCheckpoint(name: string): Promise<void> {
    await using trainer = startTrainer();
    const controller = new AbortController();
    const cancelled = trainer.train(jobOf(name), {
      signal: controller.signal,
      onProgress: ({ step }) => {
        if (step >= 2) controller.abort();
      },
    });
    await expect(cancelled).rejects.toMatchObject({ code: 'TRAINING_CANCELLED' });
    expect(existsSync(checkpoint(name))).toBe(true);
  }

  test('of another cohort is thrown away: a withdrawn image leaves no trace', async () => {
    await leaveCheckpoint('withdrawn');
    await using trainer = startTrainer();
    const fewer = { examples: examples.slice(1) };

    const result = await trainer.train(jobOf('withdrawn', fewer));
    await trainer.train(jobOf('fresh', fewer));

    expect(result.events).toEqual([]);
    expect((await readFile(out('withdrawn'))).equals(await readFile(out('fresh')))).toBe(true);
  });

  test('that cannot be written is reported, and the run goes on', async () => {
    await using trainer = startTrainer();

    const result = await trainer.train(
      jobOf('nowhere', { checkpointFile: path.join(folder, 'no', 'such', 'folder') }),
    );

    expect(result.events).toMatchObject([{ kind: 'checkpoint-failed' }]);
    expect((await readFile(out('nowhere'))).equals(undisturbed)).toBe(true);
  });
});
