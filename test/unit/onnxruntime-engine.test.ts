import { describe, expect, test } from 'vitest';
import { createOnnxRuntimeEngine } from '../../core/engine/onnxruntime/engine.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor } from '../../core/shared/tensor.ts';

const engine = createOnnxRuntimeEngine();

function doubled() {
  const builder = new GraphBuilder();
  const x = builder.input('x', 'float32', [2, 2]);
  builder.output(builder.add(x, x), 'y');
  return builder.build();
}

describe('devices', () => {
  test('the processor is there under its name, and what is away has a reason', async () => {
    const devices = await engine.devices();

    expect(devices.map((device) => device.kind)).toEqual(['cpu', 'webgpu', 'cuda', 'dml', 'coreml']);
    expect(devices[0]).toMatchObject({ available: true, name: expect.stringMatching(/\S/) });
    for (const device of devices) expect(device.available || device.reason !== undefined).toBe(true);
  });
});

describe('compile and run', () => {
  test('computes', async () => {
    const executable = await engine.compile(doubled(), { device: 'cpu' });

    const { y } = await executable.run({ x: floatTensor([2, 2], Float32Array.of(1, 2, 3, 4)) });

    expect(y).toEqual({ dtype: 'float32', dims: [2, 2], data: Float32Array.of(2, 4, 6, 8) });
    await executable.release();
  });

  test.each([
    ['is missing', {}, /"x" was not given/],
    ['has another shape', { x: floatTensor([4]) }, /\[4\] instead of float32 \[2, 2\]/],
    [
      'has another type',
      { x: { dtype: 'int64', dims: [2, 2], data: new BigInt64Array(4) } as const },
      /int64/,
    ],
    [
      'has too few values',
      { x: { dtype: 'float32', dims: [2, 2], data: new Float32Array(3) } as const },
      /3 values/,
    ],
  ])('a feed that %s is refused before the runtime sees it', async (_title, feeds, message) => {
    const executable = await engine.compile(doubled(), { device: 'cpu', threads: 1 });

    const failure = executable.run(feeds);

    await expect(failure).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(message),
    });
    await executable.release();
  });

  test('a released model runs no more; a second release is harmless', async () => {
    const executable = await engine.compile(doubled(), { device: 'cpu', threads: 1 });
    await executable.release();
    await executable.release();

    await expect(executable.run({ x: floatTensor([2, 2]) })).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
    });
  });

  test('a device that this computer lacks is an error of its own', async () => {
    const lacking = (await engine.devices()).find((device) => !device.available)!;

    await expect(engine.compile(doubled(), { device: lacking.kind })).rejects.toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
    });
  });
});
