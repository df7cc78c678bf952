/** `anneal doctor` as a person runs it, on the devices of this machine. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readDeviceChoice } from '../../core/engine/devices/device-choice.ts';

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-doctor-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function startDoctor(...args: string[]) {
  const child = spawn(process.execPath, ['core/cli/anneal.ts', 'doctor', '--data', folder, ...args]);
  const ended = { code: null, stdout: '', stderr: '' } as Ended;
  child.stdout.on('data', (text) => {
    ended.stdout += String(text);
  });
  child.stderr.on('data', (text) => {
    ended.stderr += String(text);
  });
  const end = new Promise<Ended>((resolve) => {
    child.once('close', (code) => resolve({ ...ended, code }));
  });
  return { child, end };
}

/** Process ids of the direct children of a process, from Linux's /proc. */
async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.trim().split(/\s+/).filter(Boolean).map(Number);
}

test('measures, recommends and keeps what a site then trains with', async () => {
  const { code, stdout, stderr } = await startDoctor('--time', '6', '--batch', '4', '--save').end;

  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/Available devices:[\s\S]*ONNX Runtime │ cpu/);
  expect(stdout).toMatch(/Not available:\n(.+: .+\.\n)+/);
  expect(stdout).toMatch(/Recommended: \w+ on \w+ .*batches of \d+/);
  const choice = await readDeviceChoice(folder);
  expect(choice).toMatchObject({ baseId: 'face-resnet-128' });
  expect(4 % choice!.microBatch).toBe(0);
});

test('time that is too short for a step does not make the processor unavailable', async () => {
  const { code, stdout } = await startDoctor('--time', '1', '--batch', '4', '--json').end;

  const report = JSON.parse(stdout);
  expect(code).toBe(0);
  expect(report.devices[0]).toMatchObject({ engine: 'onnxruntime', kind: 'cpu', available: true });
  expect(report.devices[0].measurements.length).toBeGreaterThan(0);
  expect(report.recommended).toMatchObject({ batchSize: 4 });
});

test('as JSON: every device with its measurements, speed and size agreeing', async () => {
  const { code, stdout } = await startDoctor('--time', '10', '--batch', '16', '--json').end;

  const report = JSON.parse(stdout);
  expect(code).toBe(0);
  const cpu = report.devices[0];
  expect(cpu).toMatchObject({ engine: 'onnxruntime', kind: 'cpu', available: true });
  expect(cpu.memoryBytes).toBeGreaterThan(1e9);
  expect(cpu.measurements[0].microBatch).toBe(4);
  for (const { microBatch, stepsPerSecond, imagesPerSecond, compileMs } of cpu.measurements) {
    expect(imagesPerSecond).toBeCloseTo(stepsPerSecond * microBatch, 6);
    expect(compileMs).toBeGreaterThan(0);
  }
  expect(report.recommended).toMatchObject({ batchSize: 16 });
  expect(report.saved).toBe(false);
});

test('an unknown base model and a batch of nothing are named before anything is measured', async () => {
  const unknown = await startDoctor('--base', 'nothing').end;
  const empty = await startDoctor('--batch', '0').end;

  expect(unknown).toMatchObject({ code: 1, stdout: '' });
  expect(unknown.stderr).toMatch(/no base model "nothing"/);
  expect(empty).toMatchObject({ code: 1, stdout: '' });
  expect(empty.stderr).toMatch(/--batch/);
});

test.skipIf(process.platform !== 'linux')('Ctrl-C ends it and its trainer process', async () => {
  const { child, end } = startDoctor('--time', '60');
  let trainers: number[] = [];
  await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
  while (trainers.length === 0 && child.exitCode === null) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    trainers = await childrenOf(child.pid!);
  }

  child.kill('SIGINT');
  const { code, stderr } = await end;

  expect({ code, stderr }).toEqual({ code: 130, stderr: 'Stopped.\n' });
  for (const pid of trainers) expect(() => process.kill(pid, 0)).toThrow();
});
