import { describe, expect, test } from 'vitest';
import { computeParts } from '../../core/engine/batch-parts.ts';
import { planTraining } from '../../core/engine/compute-plan.ts';
import type { Executable, Lane } from '../../core/engine/engine.ts';
import { fallBack } from '../../core/engine/fallback.ts';
import { graphFacts } from '../../core/engine/graph-facts.ts';
import { imagesPerLane } from '../../core/engine/lanes.ts';
import { startLane } from '../../core/engine/onnxruntime/lane.ts';
import { compile } from '../../core/engine/onnxruntime/session.ts';
import { LaneEndedError } from '../../core/engine/run-error.ts';
import { encodeOnnxModel } from '../../core/graph/encode.ts';
import { GraphBuilder } from '../../core/graph/graph-builder.ts';
import { floatTensor, type Tensor } from '../../core/shared/tensor.ts';

const cpu = { engine: 'onnxruntime', device: 'cpu', threads: 2 } as const;

/** Mostly a convolution, or mostly a product. */
function network(kind: 'convolution' | 'product') {
  const builder = new GraphBuilder();
  const wide = kind === 'convolution' ? 16 : 1;
  const x = builder.input('x', 'float32', [1, 1, 8, 8]);
  const weight = builder.constant(floatTensor([wide, 1, 3, 3]), 'convolved');
  const flat = builder.reshape(builder.conv(x, weight, { pads: [1, 1, 1, 1] }), [1, wide * 64]);
  const columns = kind === 'convolution' ? 1 : 64;
  const product = builder.matMul(flat, builder.constant(floatTensor([wide * 64, columns]), 'weight'));
  builder.output(product, 'y');
  return builder.build();
}

const convolutional = graphFacts(network('convolution'));
const plan = (changes: object, batchSize = 16, facts = convolutional) =>
  planTraining({ ...cpu, microBatch: 16, ...changes }, batchSize, () => facts);

describe('the number of lanes', () => {
  test('is that of the threads for a convolutional network on the processor', () => {
    expect(plan({})).toEqual({ device: 'cpu', microBatch: 16, lanes: 2 });
    expect(imagesPerLane(plan({}))).toBe(8);
    expect(plan({ threads: 3 })).toMatchObject({ lanes: 3 });
    expect(imagesPerLane(plan({ threads: 3 }))).toBe(6);
  });

  test.each([
    ['one thread', { threads: 1 }],
    ['another engine', { engine: 'tensorflow' }],
    ['another device', { device: 'webgpu' }],
    ['few images at once', { microBatch: 7 }],
  ])('is one for %s', (_title, changes) => {
    expect(plan(changes).lanes).toBe(1);
  });

  test('is one for a small batch, a transformer, large weights and many gradients', () => {
    expect(plan({}, 4).lanes).toBe(1);
    expect(plan({}, 16, graphFacts(network('product'))).lanes).toBe(1);
    expect(plan({}, 16, { ...convolutional, weightBytes: 90e6 }).lanes).toBe(1);
    expect(plan({}, 16, { ...convolutional, outputBytes: 90e6 }).lanes).toBe(1);
  });

  test('multiplies the images at once that nobody has chosen', () => {
    const free = { microBatch: undefined, memoryBudgetBytes: 1e9 };
    expect(plan(free, 64)).toMatchObject({ microBatch: 32, lanes: 2 });
    expect(plan({ ...free, threads: 1 }, 64)).toMatchObject({ microBatch: 16, lanes: 1 });
    expect(plan(free, 6)).toMatchObject({ microBatch: 6, lanes: 1 });
  });

  test('leaves every lane some images', () => {
    expect(plan({ threads: 64 }).lanes).toBe(4);
    expect(plan({ threads: 64, microBatch: 9 }, 9).lanes).toBe(2);
  });
});

describe('a fallback', () => {
  const started = { device: 'cpu', microBatch: 16, lanes: 2 } as const;

  test('from a lane that ended computes without lanes, once', () => {
    const { plan: next, event } = fallBack(new LaneEndedError(), started, undefined);

    expect(next).toEqual({ device: 'cpu', microBatch: 16, lanes: 1 });
    expect(event).toMatchObject({ kind: 'lane-ended', from: '2', to: '1' });
    expect(() => fallBack(new LaneEndedError(), next, undefined)).toThrow(LaneEndedError);
  });

  test('from a lack of memory leaves no lane too few images', () => {
    const failure = new Error('bad_alloc');
    const { plan: half } = fallBack(failure, started, undefined);
    const { plan: quarter } = fallBack(failure, half, undefined);

    expect(half).toEqual({ device: 'cpu', microBatch: 8, lanes: 2 });
    expect(quarter).toEqual({ device: 'cpu', microBatch: 4, lanes: 1 });
  });
});

/** x·2 for [2, 2]. */
function doubled() {
  const builder = new GraphBuilder();
  const x = builder.input('x', 'float32', [2, 2]);
  const two = builder.constant(floatTensor([], Float32Array.of(2)), 'two');
  builder.output(builder.mul(x, two), 'y');
  return builder.build();
}

const feed = (value: number) => ({ x: floatTensor([2, 2], new Float32Array(4).fill(value)) });
const firstOf = ({ y }: Record<string, Tensor>) => y!.data[0];

describe('an executable with lanes', () => {
  test('computes the same in every lane, at the same time, with feeds that change meanwhile', async () => {
    const executable = await compile(doubled(), { device: 'cpu', threads: 1, lanes: 3 });
    const feeds = feed(1);
    const results = executable.beside!.map((lane, index) => {
      feeds.x.data.fill(index + 10);
      return lane.start(feeds);
    });
    feeds.x.data.fill(5);
    results.push(executable.run(feeds));

    expect((await Promise.all(results)).map(firstOf)).toEqual([20, 22, 10]);
    await executable.release();
  });

  test('has none beside it when it is to have one', async () => {
    const executable = await compile(doubled(), { device: 'cpu', threads: 1, lanes: 1 });
    expect(executable.beside).toBeUndefined();
    await executable.release();
  });

  test('takes numbers below 1e-38 for 0 in every lane', async () => {
    const executable = await compile(doubled(), { device: 'cpu', threads: 1, lanes: 2 });
    const [lane] = executable.beside!;
    // The compiler of this thread's numbers may flush them, too, so they are made of bits.
    const tiny = new Float32Array(Uint32Array.of(1000, 1000, 1000, 1000).buffer);
    const feeds = { x: floatTensor([2, 2], tiny) };

    const both = [await lane!.start(feeds), await executable.run(feeds)];

    // Other systems may not pass this on to a new thread.
    if (process.platform === 'linux') expect(both.map(firstOf)).toEqual([0, 0]);
    await executable.release();
  });
});

describe('a lane', () => {
  const session = { executionProviders: ['cpu'], intraOpNumThreads: 1 };

  test('refuses a wrong feed before its thread sees it, and goes on', async () => {
    const lane = await startLane(doubled(), { model: encodeOnnxModel(doubled()), options: session }, 'ORT');

    await expect(lane.start({})).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    expect(firstOf(await lane.start(feed(3)))).toBe(6);
    await lane.release();
  });

  test('that is gone says so at the next start', async () => {
    const lane = await startLane(doubled(), { model: encodeOnnxModel(doubled()), options: session }, 'ORT');
    await lane.release();

    await expect(lane.start(feed(1))).rejects.toBeInstanceOf(LaneEndedError);
  });

  test('whose thread ends with an error says so to whoever waits', async () => {
    const starting = startLane(doubled(), { model: Uint8Array.of(1, 2, 3), options: session }, 'ORT');

    await expect(starting).rejects.toBeInstanceOf(LaneEndedError);
  });
});

describe('computeParts', () => {
  interface Part {
    name: string;
    last: boolean;
  }

  async function* partsOf(names: readonly string[], lastNames: string) {
    for (const name of names) yield { part: { name, last: lastNames.includes(name) }, feeds: feed(0) };
  }

  /** Writes down what starts and ends; lanes take longer than the thread itself. */
  function executableOf(lanes: number, failing?: string) {
    const log: string[] = [];
    const compute = async (name: string, turns: number) => {
      log.push(`${name} starts`);
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      log.push(`${name} ends`);
      if (name === failing) throw new Error(`${name} failed`);
      return { y: floatTensor([], Float32Array.of(1)) };
    };
    const beside: Lane[] = Array.from({ length: lanes - 1 }, (_, index) => ({
      start: () => compute(`lane ${index + 1}`, 5),
    }));
    const executable: Executable = { beside, run: () => compute('own', 1), release: async () => {} };
    return { log, executable };
  }

  async function order(executable: Executable, names: readonly string[], lastNames: string) {
    const seen: string[] = [];
    const before = async () => {};
    for await (const { part } of computeParts<Part>(executable, partsOf(names, lastNames), before)) {
      seen.push(part.name);
    }
    return seen;
  }

  test('gives all parts in their order, with any number of lanes', async () => {
    for (const lanes of [1, 2, 3, 4]) {
      const { executable } = executableOf(lanes);
      expect(await order(executable, ['a', 'b', 'c', 'd', 'e'], 'ce')).toEqual(['a', 'b', 'c', 'd', 'e']);
    }
  });

  test('lets lanes work at the same time, and parts of two batches never', async () => {
    const { log, executable } = executableOf(2);

    await order(executable, ['a', 'b', 'c'], 'bc');

    expect(log).toEqual(['lane 1 starts', 'own starts', 'own ends', 'lane 1 ends', 'own starts', 'own ends']);
  });

  test.each(['lane 1', 'own'])('throws when %s fails, after all others have ended', async (failing) => {
    const { log, executable } = executableOf(3, failing);

    await expect(order(executable, ['a', 'b', 'c'], 'c')).rejects.toThrow(`${failing} failed`);
    expect(log.filter((line) => line.endsWith('ends'))).toHaveLength(3);
  });

  test('waits for the lanes when it is stopped in between', async () => {
    const { log, executable } = executableOf(2);
    let calls = 0;
    const cancelled = async () => {
      if (++calls === 2) throw new Error('cancelled');
    };

    const running = computeParts<Part>(executable, partsOf(['a', 'b'], 'b'), cancelled).next();

    await expect(running).rejects.toThrow('cancelled');
    expect(log).toEqual(['lane 1 starts', 'lane 1 ends']);
  });
});
