import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../core/engine/engines.ts';
import { createTensorFlowEngine } from '../../core/engine/tensorflow/engine.ts';
import { readInstallation, tensorFlowFolder } from '../../core/engine/tensorflow/installation.ts';
import { loadFailure } from '../../core/engine/tensorflow/native-backend.ts';
import { operatorTable } from '../../core/engine/tensorflow/operators/table.ts';
import { readAnswer } from '../../core/engine/tensorflow/probe.ts';
import type { Graph, GraphNode } from '../../core/graph/graph.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { operators } from '../../core/graph/operators.ts';
import { floatTensor, type Tensor } from '../../core/shared/tensor.ts';

/** Operators that graphs may hold and this engine lacks, each with the reason. */
const unsupported: Readonly<Record<string, string>> = {};

const engine = createTensorFlowEngine({ folder: '/nowhere' });
const onCpu = { device: 'cpu', threads: 1 } as const;

function doubled(): Graph {
  const builder = new GraphBuilder();
  const x = builder.input('x', 'float32', [2, 2]);
  builder.output(builder.add(x, x), 'y');
  return builder.build();
}

function withNode(graph: Graph, op: string, change: Partial<GraphNode>): Graph {
  return { ...graph, nodes: graph.nodes.map((node) => (node.op === op ? { ...node, ...change } : node)) };
}

const integers = (...values: (number | bigint)[]): Tensor<'int64'> => ({
  dtype: 'int64',
  dims: [values.length],
  data: BigInt64Array.from(values, BigInt),
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-tensorflow-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('operators', () => {
  test('the table holds every operator that a graph may hold, and no other', () => {
    const nodes = [...operators].filter(([, { infer }]) => infer !== undefined).map(([op]) => op);
    const supported = nodes.filter((op) => !Object.hasOwn(unsupported, op));

    expect(Object.keys(operatorTable).sort()).toEqual(supported.sort());
  });

  test('one that it lacks is named with its node before anything runs', async () => {
    const graph = doubled();
    const strange = withNode(graph, 'Add', { op: 'Rainbow', name: 'head/rainbow' });

    await expect(engine.compile(strange, onCpu)).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: expect.stringMatching(/Rainbow \(head\/rainbow\)/),
    });
  });

  test('a setting that it lacks is named with its node', async () => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [2, 2]);
    builder.output(builder.pad('x', [0, 1, 0, 1]), 'y');
    const graph = builder.build();
    const wrapped = withNode(graph, 'Pad', { attributes: { mode: 'wrap' } });

    await expect(engine.compile(wrapped, onCpu)).rejects.toMatchObject({
      code: 'OPERATOR_UNSUPPORTED',
      message: expect.stringMatching(/Pad \(.+\): mode "wrap"/),
    });
  });
});

describe('compile and run', () => {
  test('computes, through the table of engines as well', async () => {
    const byName = await loadEngine('tensorflow');
    for (const runtime of [engine, byName]) {
      const executable = await runtime.compile(doubled(), onCpu);

      const { y } = await executable.run({ x: floatTensor([2, 2], Float32Array.of(1, 2, 3, 4)) });

      expect(y).toEqual({ dtype: 'float32', dims: [2, 2], data: Float32Array.of(2, 4, 6, 8) });
      await executable.release();
    }
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
  ])('a feed that %s is refused', async (_title, feeds, message) => {
    const executable = await engine.compile(doubled(), onCpu);

    await expect(executable.run(feeds)).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(message),
    });
    await executable.release();
  });

  test('integers and bools come back in the types of the graph', async () => {
    const builder = new GraphBuilder();
    builder.input('i', 'int64', [3]);
    builder.output(builder.add('i', 'i'), 'sum');
    builder.output(builder.greater('i', builder.constant(integers(0, 0, 0))), 'positive');
    const executable = await engine.compile(builder.build(), onCpu);

    const { sum, positive } = await executable.run({ i: integers(-5, 0, 1_000_000_000) });

    expect(sum).toEqual(integers(-10, 0, 2_000_000_000));
    expect(positive).toEqual({ dtype: 'bool', dims: [3], data: Uint8Array.of(0, 0, 1) });
    await executable.release();
  });

  test('an integer of more than 32 bits is refused, not cut off', async () => {
    const builder = new GraphBuilder();
    builder.input('i', 'int64', [1]);
    builder.output(builder.add('i', 'i'), 'sum');
    const executable = await engine.compile(builder.build(), onCpu);

    await expect(executable.run({ i: integers(2n ** 31n) })).rejects.toMatchObject({
      code: 'SHAPE_MISMATCH',
      message: expect.stringMatching(/"i" holds the integer 2147483648/),
    });
    expect(await executable.run({ i: integers(-(2n ** 30n)) })).toEqual({ sum: integers(-(2n ** 31n)) });
    await executable.release();
  });

  test('a failing run frees what it made', async () => {
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [2]);
    builder.input('i', 'int64', [1]);
    builder.output(builder.mul(builder.exp('x'), builder.cast('i', 'float32')), 'y');
    const executable = await engine.compile(builder.build(), onCpu);
    const before = tf.memory().numTensors;

    await expect(executable.run({ x: floatTensor([2]), i: integers(2n ** 40n) })).rejects.toThrow();

    expect(tf.memory().numTensors).toBe(before);
    await executable.release();
  });

  test('a step that WebAssembly has no room for says so, and a smaller one still runs', async () => {
    const expanded = (rows: number) => {
      const builder = new GraphBuilder();
      builder.input('x', 'float32', [1, 1000]);
      builder.output(builder.reduceMax(builder.expand('x', [rows, 1000]), undefined, false), 'y');
      return builder.build();
    };
    const huge = await engine.compile(expanded(900_000), onCpu);
    const small = await engine.compile(expanded(9), onCpu);
    const feeds = { x: floatTensor([1, 1000], new Float32Array(1000).fill(2)) };

    await expect(huge.run(feeds)).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
      message: expect.stringMatching(/not enough memory/),
      cause: expect.any(Error),
    });

    expect(await small.run(feeds)).toEqual({ y: floatTensor([], Float32Array.of(2)) });
    for (const executable of [huge, small]) await executable.release();
  });

  test('nothing is left after the release; a released model runs no more', async () => {
    const before = tf.memory().numTensors;
    const builder = new GraphBuilder();
    builder.input('x', 'float32', [1, 2, 6, 6]);
    const weight = builder.constant(floatTensor([2, 2, 3, 3], new Float32Array(36).fill(0.1)));
    builder.output(builder.averagePool(builder.conv('x', weight), [3, 3], { pads: [1, 1, 1, 1] }), 'y');
    const executable = await engine.compile(builder.build(), onCpu);
    await executable.run({ x: floatTensor([1, 2, 6, 6]) });

    await executable.release();
    await executable.release();

    expect(tf.memory().numTensors).toBe(before);
    await expect(executable.run({ x: floatTensor([1, 2, 6, 6]) })).rejects.toMatchObject({
      code: 'TRAINING_FAILED',
    });
  });
});

describe('devices', () => {
  test('without the library: the processor through WebAssembly, and what is missing for the rest', async () => {
    const [cpu, gpu] = await engine.devices();

    expect(cpu).toMatchObject({ kind: 'cpu', available: true, name: expect.stringMatching(/WebAssembly/) });
    expect(gpu).toMatchObject({ kind: 'cuda', available: false });
    expect(gpu!.reason).toMatch(/not installed: run "npm run setup:tensorflow"/);
    await expect(engine.compile(doubled(), { device: 'cuda' })).rejects.toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
      action: expect.stringMatching(/setup:tensorflow/),
    });
  });

  test.each(['webgpu', 'dml', 'coreml'] as const)('%s is not one of its devices', async (device) => {
    await expect(engine.compile(doubled(), { device })).rejects.toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
  });

  test.each([
    ['a manifest that is no JSON', '{'],
    ['a manifest that names no addon', '{"tensorflow": "2.15.1", "source": "folder"}'],
    ['an addon that is not there', '{"addon": "lib/a.node", "tensorflow": "2.15.1", "source": "folder"}'],
    ['an addon outside the folder', '{"addon": "/etc/passwd", "tensorflow": "2", "source": "folder"}'],
  ])('an incomplete installation (%s) is no device and says what to do', async (title, manifest) => {
    const installed = path.join(folder, title);
    await mkdir(installed);
    await writeFile(path.join(installed, 'installation.json'), manifest);
    const damaged = createTensorFlowEngine({ folder: installed });

    const devices = await damaged.devices();

    for (const device of devices) {
      expect(device).toMatchObject({ available: false });
      expect(device.reason).toMatch(/incomplete.*setup:tensorflow/);
    }
    await expect(damaged.compile(doubled(), onCpu)).rejects.toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
  });

  test('an addon that does not load is a reason in plain words, and harms nobody', async () => {
    const installed = path.join(folder, 'broken');
    await mkdir(installed);
    await writeFile(path.join(installed, 'broken.node'), 'not a library');
    const manifest = { addon: 'broken.node', tensorflow: '2.15.1', source: 'folder' };
    await writeFile(path.join(installed, 'installation.json'), JSON.stringify(manifest));

    const [cpu] = await createTensorFlowEngine({ folder: installed }).devices();

    expect(cpu).toMatchObject({ available: false });
    expect(cpu!.reason).toMatch(/The TensorFlow library does not load: .*setup:tensorflow/);
    expect(cpu!.reason).not.toContain(installed);
  });

  test('the native library, where it is installed, computes in a process of its own', async (context) => {
    if (readInstallation(tensorFlowFolder()) === undefined) {
      context.skip('no libtensorflow is installed: npm run setup:tensorflow');
    }

    const [cpu, gpu] = await createTensorFlowEngine().devices();

    expect(cpu).toMatchObject({ available: true, name: expect.stringMatching(/TensorFlow 2\.\d+/) });
    expect(gpu!.available || /graphics|NVIDIA|CUDA/.test(gpu!.reason!)).toBe(true);
  });
});

describe('what the library says', () => {
  test('missing parts of CUDA are collected from its log', () => {
    const log = `W dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; dlerror: …
W dso_loader.cc:64] Could not load dynamic library 'libcudnn.so.8'; dlerror: …
W dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; dlerror: …`;

    const answer = readAnswer('{"version":"2.9.1","usesGpu":false,"computes":true}', log);

    expect(answer).toMatchObject({ missing: ['libcudart.so.11.0', 'libcudnn.so.8'] });
  });

  test.each([
    ['', /crashes/],
    ['{}', /does not answer/],
    ['{"version":"2.9.1","usesGpu":false,"computes":false}', /wrong results/],
    ['{"failure":"It is broken."}', /^It is broken\.$/],
  ])('the answer %j is a failure', (stdout, failure) => {
    expect(readAnswer(stdout, '')).toEqual({ failure: expect.stringMatching(failure) });
  });

  test.each([
    [
      '/x/y: libtensorflow.so.2: cannot open shared object file: No such file',
      'libtensorflow.so.2 is missing',
    ],
    ['/x/tfjs_binding.node: undefined symbol: TFE_Foo', 'it was built for another system or another version'],
    [
      "Cannot find module '@tensorflow/tfjs-node-gpu/dist/x'",
      'the package @tensorflow/tfjs-node-gpu is not part of this installation',
    ],
    ['/home/someone/secret: odd', 'the system refused it'],
  ])('%s', (message, words) => {
    expect(loadFailure(new Error(message))).toBe(words);
  });
});
