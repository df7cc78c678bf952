import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  computeSettings,
  type DeviceChoice,
  readDeviceChoice,
  writeDeviceChoice,
} from '../../core/engine/devices/device-choice.ts';
import {
  expectedMemoryBytes,
  type MeasuredDevice,
  type Measurement,
} from '../../core/engine/devices/measure-devices.ts';
import { microBatchCandidates } from '../../core/engine/devices/measure-machine.ts';
import { deviceBudgetBytes, hostBudgetBytes } from '../../core/engine/devices/memory-budget.ts';
import { recommend } from '../../core/engine/devices/recommend.ts';
import type { DeviceKind, EngineName } from '../../core/engine/engine.ts';

const gibibyte = 2 ** 30;

function measured(microBatch: number, imagesPerSecond: number, memoryMebibytes = 500): Measurement {
  return {
    threads: 2,
    microBatch,
    imagesPerSecond,
    stepsPerSecond: imagesPerSecond / microBatch,
    compileMs: 100,
    peakMemoryBytes: memoryMebibytes * 2 ** 20,
  };
}

function device(kind: DeviceKind, measurements: Measurement[], engine: EngineName = 'onnxruntime') {
  return {
    engine,
    kind,
    name: kind,
    available: measurements.length > 0,
    measurements,
    tried: true,
  } satisfies MeasuredDevice;
}

describe('a recommendation', () => {
  test('is the fastest device', () => {
    const devices = [device('cpu', [measured(8, 40)]), device('webgpu', [measured(8, 200)])];

    expect(recommend(devices, 16)).toMatchObject({ device: 'webgpu', microBatch: 8, batchSize: 16 });
  });

  test('stays with the processor when another device is hardly faster or slower, in any order', () => {
    const cpu = device('cpu', [measured(8, 40)]);
    const software = { ...device('webgpu', [measured(8, 2)]), software: true };
    const tensorflow = device('cpu', [measured(8, 43)], 'tensorflow');

    for (const devices of [
      [cpu, software, tensorflow],
      [tensorflow, software, cpu],
    ]) {
      expect(recommend(devices, 16)).toMatchObject({ engine: 'onnxruntime', device: 'cpu' });
    }
  });

  test('takes the size with less memory among those that are about as fast', () => {
    const sizes = [measured(4, 30, 300), measured(8, 39, 500), measured(16, 40, 900)];

    expect(recommend([device('cpu', sizes)], 16)).toMatchObject({ microBatch: 8, imagesPerSecond: 39 });
  });

  test('never takes more images at once than the batch has, and a batch that they divide', () => {
    const sizes = [measured(5, 30), measured(20, 60)];

    expect(recommend([device('cpu', sizes)], 12)).toMatchObject({ microBatch: 5, batchSize: 10 });
  });

  test('is null when nothing can train', () => {
    expect(recommend([device('cpu', [])], 16)).toBeNull();
    expect(recommend([], 16)).toBeNull();
  });
});

describe('sizes and memory', () => {
  test('the batch and its halves', () => {
    expect(microBatchCandidates(16)).toEqual([4, 8, 16]);
    expect(microBatchCandidates(6)).toEqual([3, 6]);
    expect(microBatchCandidates(1)).toEqual([1]);
  });

  test('the next size lies on the line through the last two', () => {
    expect(expectedMemoryBytes([measured(4, 1, 300)], 8)).toBe(600 * 2 ** 20);
    expect(expectedMemoryBytes([measured(4, 1, 300), measured(8, 1, 400)], 16)).toBe(600 * 2 ** 20);
    // Noise must not foretell that more images take less.
    expect(expectedMemoryBytes([measured(4, 1, 300), measured(8, 1, 290)], 16)).toBe(290 * 2 ** 20);
  });

  test('a reserve stays free, and a full computer still gets something', () => {
    expect(hostBudgetBytes({ totalBytes: 16 * gibibyte, availableBytes: 10 * gibibyte })).toBe(
      Math.floor(8.4 * gibibyte),
    );
    expect(hostBudgetBytes({ totalBytes: 256 * gibibyte, availableBytes: 200 * gibibyte })).toBe(
      196 * gibibyte,
    );
    expect(hostBudgetBytes({ totalBytes: 4 * gibibyte, availableBytes: gibibyte / 2 })).toBe(gibibyte / 4);
  });

  test('a card with memory of its own is asked for that; a software renderer has none', () => {
    const host = { totalBytes: 16 * gibibyte, availableBytes: 10 * gibibyte };
    const card = { ...device('webgpu', []), memoryBytes: 20 * gibibyte };

    expect(deviceBudgetBytes(card, host)).toBe(17 * gibibyte);
    expect(deviceBudgetBytes({ ...card, software: true }, host)).toBe(hostBudgetBytes(host));
    expect(deviceBudgetBytes({ ...card, kind: 'cpu' }, host)).toBe(hostBudgetBytes(host));
  });
});

describe('device.json', () => {
  const choice: DeviceChoice = {
    version: 1,
    engine: 'onnxruntime',
    device: 'webgpu',
    threads: 3,
    baseId: 'face-resnet-128',
    microBatch: 8,
    memoryBudgetBytes: gibibyte,
    measuredAt: '2026-11-22T19:00:00.000Z',
  };
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'anneal-choice-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('comes back as it was kept; there is none at first', async () => {
    expect(await readDeviceChoice(folder)).toBeNull();

    await writeDeviceChoice(folder, choice);

    expect(await readDeviceChoice(folder)).toEqual(choice);
    expect(await readdir(folder)).toEqual(['device.json']);
  });

  test('a damaged one is named with what is wrong and what to do', async () => {
    const file = path.join(folder, 'device.json');
    for (const [text, words] of [
      ['{', /is not JSON/],
      [JSON.stringify({ ...choice, device: 'abacus' }), /unusable "device"/],
      [JSON.stringify({ ...choice, threads: 0 }), /unusable "threads"/],
    ] as const) {
      await writeFile(file, text);

      await expect(readDeviceChoice(folder)).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(words),
        action: expect.stringMatching(/doctor --save/),
      });
      expect(await readFile(file, 'utf8')).toBe(text);
    }
  });

  test('decides where a job runs; images at once only for the base model that was measured', () => {
    expect(computeSettings(choice, 'face-resnet-128')).toEqual({
      engine: 'onnxruntime',
      device: 'webgpu',
      threads: 3,
      memoryBudgetBytes: gibibyte,
      microBatch: 8,
    });
    expect(computeSettings(choice, 'vit')).not.toHaveProperty('microBatch');
    expect(computeSettings(choice, 'vit', 1).threads).toBe(1);
    expect(computeSettings(null, 'vit')).toEqual({
      engine: 'onnxruntime',
      device: 'cpu',
      threads: availableParallelism(),
    });
  });
});
