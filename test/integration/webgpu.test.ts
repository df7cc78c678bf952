/**
 * Training on the real WebGPU provider: on SwiftShader, a Vulkan driver that computes on the processor and comes
 * with Debian's Chromium. Everything runs in child processes, which a crash of the driver cannot leave.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Device } from '../../core/engine/engine.ts';
import type { Comparison } from '../fixtures/webgpu/comparison.ts';
import { findWebGpu } from '../fixtures/webgpu/software-vulkan.ts';

const run = promisify(execFile);
const tolerance = 1e-3;
const { env, missing } = findWebGpu();

async function runScript(name: string, ...args: string[]): Promise<unknown> {
  const script = path.resolve('test/fixtures/webgpu', name);
  const { stdout } = await run(process.execPath, [script, ...args], { env, timeout: 280_000 });
  return JSON.parse(stdout);
}

describe.skipIf(missing !== undefined)(`WebGPU${missing === undefined ? '' : ` (${missing})`}`, () => {
  // The whole table takes minutes on SwiftShader; without arguments the script runs it.
  test('windows and slices of the gradient table as on the processor, or refused', async () => {
    const operators = ['Conv', 'ConvTranspose', 'Slice'];
    const { cases, refused, different } = (await runScript('rule-table.ts', ...operators)) as {
      cases: number;
      refused: string[];
      different: string[];
    };

    expect(cases).toBeGreaterThan(30);
    expect(different).toEqual([]);
    // What ONNX Runtime computes wrongly there; see webgpu-faults.ts.
    expect(refused.map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
      'Slice: backwards by two',
      'Conv: depthwise, dilated, stride 2, uneven pads',
      'Conv: depthwise, dilated, stride 2, uneven pads, frozen weight',
      'ConvTranspose: two groups, stride 2, extra row, dilated',
    ]);
    expect(refused[0]).toContain('slices that run backwards from the middle');
  }, 300_000);

  test.each(['small-conv-net', 'vit-of-two-blocks'])(
    '%s: loss, logits and every gradient as on the processor',
    async (network) => {
      const { [network]: compared } = (await runScript('compare-devices.ts', network)) as Record<
        string,
        Comparison
      >;

      const { losses, tensors } = compared!;
      expect(Math.abs(losses.webgpu - losses.cpu)).toBeLessThan(tolerance);
      expect(tensors.length).toBeGreaterThan(8);
      for (const { name, largest, difference } of tensors) {
        expect(largest, name).toBeGreaterThan(0);
        expect(difference / largest, name).toBeLessThan(tolerance);
      }
    },
    300_000,
  );

  test('ten steps in the trainer process end as on the processor', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'anneal-webgpu-'));
    try {
      const { runs, moved, apart } = (await runScript('train-ten-steps.ts', folder)) as {
        runs: {
          device: string;
          steps: number;
          meanLoss: number;
          evaluatedLoss: number;
          events: unknown[];
        }[];
        /** How far the trained numbers are from where they began, and from each other (L2). */
        moved: number;
        apart: number;
      };

      const [cpu, webgpu] = runs;
      expect(webgpu).toMatchObject({ device: 'webgpu', steps: 10, events: [] });
      expect(Math.abs(webgpu!.meanLoss - cpu!.meanLoss)).toBeLessThan(tolerance);
      expect(Math.abs(webgpu!.evaluatedLoss - cpu!.evaluatedLoss)).toBeLessThan(tolerance);
      expect(moved).toBeGreaterThan(0.05);
      expect(apart).toBeLessThan(tolerance * moved);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 300_000);

  test('a buffer beyond the limits of the device is understood as too little memory', async () => {
    // Hardware may have the memory for it.
    const possible =
      env['VK_ICD_FILENAMES'] === undefined ? ['out-of-memory', 'computed'] : ['out-of-memory'];

    expect(possible).toContain(await runScript('too-large.ts'));
  });

  test('a software renderer is listed as one', async () => {
    const script = path.resolve('test/fixtures/webgpu/list-devices.ts');
    const { stdout } = await run(process.execPath, [script], { env });

    const webgpu = (JSON.parse(stdout) as Device[]).find((device) => device.kind === 'webgpu');
    expect(webgpu?.available).toBe(true);
    if (env['VK_ICD_FILENAMES'] !== undefined) {
      expect(webgpu).toMatchObject({ software: true, name: expect.stringMatching(/SwiftShader/) });
    }
  });
});
