/** The trainer process around its jobs: queue, cancel, crash, and the end of its parent. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTrainer } from '../../core/engine/trainer.ts';
import type { Example, TrainJob } from '../../core/engine/trainer-protocol.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { initialState } from '../../core/models/initial-state.ts';
import { loadBaseModel } from '../fixtures/base-models.ts';
import { shapeClasses, shapeJob, writeShapeCrops } from '../fixtures/shape-crops.ts';

let folder: string;
let stateFile: string;
let examples: Example[];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-trainer-life-'));
  const base = await loadBaseModel('face-resnet-128');
  const options = { classes: shapeClasses, targetModules: 'level-256', r: 2, scale: 1, seed: 3 };
  stateFile = path.join(folder, 'start.safetensors');
  await writeFile(stateFile, encodeModelState(initialState(base, options)));
  examples = await writeShapeCrops(path.join(folder, 'crops'), 4, 1);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const out = (name: string) => path.join(folder, `${name}.safetensors`);
const shortJob = (name: string): TrainJob => shapeJob({ stateFile, outFile: out(name) }, examples);
/** Longer than any test waits for it. */
const endlessJob = (name: string): TrainJob =>
  shapeJob({ stateFile, outFile: out(name) }, examples, { training: { epochs: 100_000 } });

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true in time');
    await sleep(20);
  }
}

describe('cancelling', () => {
  test('ends the job between two steps, writes nothing and leaves the process to the next job', async () => {
    await using trainer = startTrainer();
    const controller = new AbortController();
    const running = trainer.train(endlessJob('cancelled'), {
      signal: controller.signal,
      onProgress: ({ step }) => {
        if (step >= 2) controller.abort();
      },
    });
    await expect(running).rejects.toMatchObject({ code: 'TRAINING_CANCELLED' });
    const { pid } = trainer;

    await trainer.train(shortJob('after-cancel'));

    expect(trainer.pid).toBe(pid);
    expect(existsSync(out('after-cancel'))).toBe(true);
    expect((await readdir(folder)).filter((name) => name.startsWith('cancelled'))).toEqual([]);
  });

  test('takes a waiting job out of the queue at once', async () => {
    await using trainer = startTrainer();
    const controller = new AbortController();
    const order: string[] = [];
    const first = trainer.train(shortJob('first')).then(() => order.push('first'));
    const second = trainer.train(shortJob('second'), { signal: controller.signal }).catch((error) => {
      order.push('second');
      return error;
    });
    const third = trainer.train(shortJob('third')).then(() => order.push('third'));

    controller.abort();

    expect(await second).toMatchObject({ code: 'TRAINING_CANCELLED' });
    await Promise.all([first, third]);
    expect(order).toEqual(['second', 'first', 'third']);
    expect(existsSync(out('second'))).toBe(false);
  });
});

describe('a trainer process that dies', () => {
  test('twice fails its job with one clear error, and the next job gets a new process', async () => {
    await using trainer = startTrainer();
    const killed = new Set<number | undefined>();
    const running = trainer.train(endlessJob('killed'), {
      onProgress: () => {
        const { pid } = trainer;
        if (pid === undefined || killed.has(pid)) return;
        killed.add(pid);
        process.kill(pid, 'SIGKILL');
      },
    });
    const next = trainer.train(shortJob('next'));

    await expect(running).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: expect.stringContaining('SIGKILL'),
    });
    expect((await next).steps).toBe(2);
    expect(killed.size).toBe(2);
    expect(killed.has(trainer.pid)).toBe(false);
    expect(existsSync(out('killed'))).toBe(false);
  });

  test('between jobs goes unnoticed', async () => {
    await using trainer = startTrainer();
    await trainer.train(shortJob('before'));
    const { pid } = trainer;
    process.kill(pid!, 'SIGKILL');
    await until(() => trainer.pid === undefined);

    expect((await trainer.train(shortJob('again'))).steps).toBe(2);
  });
});

describe('the end', () => {
  test('close ends the process and cancels what runs and waits', async () => {
    const trainer = startTrainer();
    const running = trainer.train(endlessJob('closed'), { onProgress: () => void trainer.close() });
    const waiting = trainer.train(shortJob('waiting'));
    const { pid } = trainer;

    await expect(running).rejects.toMatchObject({ code: 'TRAINING_CANCELLED' });
    await expect(waiting).rejects.toMatchObject({ code: 'TRAINING_CANCELLED' });
    await trainer.close();

    await until(() => !isAlive(pid!));
    await expect(trainer.train(shortJob('late'))).rejects.toMatchObject({ code: 'TRAINING_CANCELLED' });
  });

  test('a trainer does not outlive a parent that was killed', async () => {
    const trainerUrl = pathToFileURL(fileURLToPath(new URL('../../core/engine/trainer.ts', import.meta.url)));
    const program = `
      const { startTrainer } = await import(${JSON.stringify(trainerUrl.href)});
      const trainer = startTrainer();
      const job = ${JSON.stringify(endlessJob('orphan'))};
      trainer.train(job, { onProgress: () => console.log(trainer.pid) });
    `;
    const parent = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(parent.stdout.setEncoding('utf8'), 'data')) as [string];
    const pid = Number.parseInt(line, 10);
    expect(isAlive(pid)).toBe(true);

    parent.kill('SIGKILL');

    await until(() => !isAlive(pid));
  });
});
