/**
 * A lane's end in the thread that trains: starts the other thread, hands it feeds and takes its outputs. Both are in
 * shared memory: what goes back and forth is who has the turn.
 */
import { Worker } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import type { Graph } from '../../graph/graph.ts';
import { bytesPerValue, type DataType, elementCount, type Tensor } from '../../shared/tensor.ts';
import { checkFeeds } from '../check-feeds.ts';
import type { Lane } from '../engine.ts';
import { LaneEndedError, runError } from '../run-error.ts';

/** What a lane's thread is started with. */
export interface LaneData {
  model: Uint8Array;
  options: InferenceSession.SessionOptions;
  inputs: Readonly<Record<string, Tensor>>;
  outputs: Readonly<Record<string, Tensor>>;
}

export type LaneRequest = 'run' | 'end';
/** `ready` once; then an answer to every run. */
export type LaneReply = { type: 'ready' } | { type: 'done' } | { type: 'failed'; message: string };

export interface StartedLane extends Lane {
  /** Ends the thread once it has finished what it computes. */
  release(): Promise<void>;
}

/**
 * @param model the graph as it is compiled in this thread, too
 * @throws AppError TRAINING_FAILED when its session cannot be made; LaneEndedError
 */
export async function startLane(
  graph: Graph,
  model: Pick<LaneData, 'model' | 'options'>,
  runtimeName: string,
): Promise<StartedLane> {
  const inputs = sharedTensors(graph, graph.inputs);
  const outputs = sharedTensors(graph, graph.outputs);
  const data: LaneData = { ...model, inputs, outputs };
  const worker = new Worker(new URL('./lane-worker.ts', import.meta.url), {
    name: 'anneal-lane',
    workerData: data,
  });
  let waiting: PromiseWithResolvers<void> | undefined;
  let ended: LaneEndedError | undefined;

  /** The lane's next answer. A lane that waits must not keep the process alive. */
  function nextReply(): Promise<void> {
    if (ended !== undefined) return Promise.reject(ended);
    waiting = Promise.withResolvers<void>();
    worker.ref();
    return waiting.promise.finally(() => worker.unref());
  }

  function settle(settleWith: (waiting: PromiseWithResolvers<void>) => void): void {
    const settled = waiting;
    waiting = undefined;
    if (settled !== undefined) settleWith(settled);
  }

  function lose(cause?: unknown): void {
    ended ??= new LaneEndedError(cause);
    settle(({ reject }) => reject(ended));
  }

  worker.on('message', (reply: LaneReply) =>
    settle(({ resolve, reject }) =>
      reply.type === 'failed' ? reject(runError(new Error(reply.message), runtimeName)) : resolve(),
    ),
  );
  worker.on('error', lose);
  worker.on('exit', () => lose());
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const send = (request: LaneRequest) => worker.postMessage(request);

  await nextReply();
  return {
    async start(feeds) {
      for (const [name, { data }] of checkFeeds(graph, feeds)) inputs[name]!.data.set(data as never);
      const reply = nextReply();
      send('run');
      await reply;
      return outputs;
    },
    async release() {
      // Waited for, so the process must not end before the thread has.
      worker.ref();
      send('end');
      await exited;
    },
  };
}

function sharedTensors(graph: Graph, names: readonly string[]): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const name of names) {
    const { dtype, dims } = graph.types.get(name)!;
    tensors[name] = sharedTensor(dtype, dims);
  }
  return tensors;
}

function sharedTensor(dtype: DataType, dims: readonly number[]): Tensor {
  const memory = new SharedArrayBuffer(elementCount(dims) * bytesPerValue[dtype]);
  const data =
    dtype === 'float32'
      ? new Float32Array(memory)
      : dtype === 'int64'
        ? new BigInt64Array(memory)
        : new Uint8Array(memory);
  return { dtype, dims, data } as Tensor;
}
