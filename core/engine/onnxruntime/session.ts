/** Compiling and running graphs in ONNX Runtime. */
import * as ort from 'onnxruntime-node';
import { encodeOnnxModelApart } from '../../graph/encode.ts';
import type { Graph } from '../../graph/graph.ts';
import { lowerForProcessor } from '../../graph/optimise/optimise.ts';
import { AppError } from '../../shared/errors.ts';
import type { DataType, Tensor } from '../../shared/tensor.ts';
import { checkFeeds } from '../check-feeds.ts';
import type { CompileOptions, DeviceKind, Executable } from '../engine.ts';
import { classifyRunError, runError } from '../run-error.ts';
import { type StartedLane, startLane } from './lane.ts';
import { toOrtTensors } from './ort-tensors.ts';
import { missingRuntime } from './runtime-parts.ts';
import { findWebGpuFault } from './webgpu-faults.ts';

const runtimeName = 'ONNX Runtime';
const errorSeverity = 3;

/**
 * A thread that waits for the next operator spins for so long before it sleeps. Measured with face-resnet-128 on two
 * cores: 121 images/s, as with endless spinning, against 108 without; two trainers at a time do 57 each, against 65
 * without and 37 with endless spinning.
 */
const briefSpinUs = '50';

/**
 * Weights are packed anew for the forward and again for the backward product; beyond this size that takes more
 * memory than it is worth (ViT-Base: a fifth less memory for a few percent of its speed).
 */
const largestPackedBytes = 256 * 1024 * 1024;

export async function compile(graph: Graph, options: CompileOptions): Promise<Executable> {
  // Asked for a missing library, the runtime would write its path to the terminal.
  if (options.device !== 'cpu' && missingRuntime(options.device) !== undefined)
    throw compileError(options.device);
  if (options.device === 'webgpu') refuseFaults(graph);
  const lowered = options.device === 'cpu' ? lowerForProcessor(graph) : graph;
  const { model, externalData } = encodeOnnxModelApart(lowered);
  const weightBytes = externalData.reduce((bytes, { data }) => bytes + data.length, 0);
  const whole = { ...sessionOptions(options, weightBytes), externalData };
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(model, whole);
  } catch (cause) {
    throw compileError(options.device, cause);
  }
  const lanes = await startLanes(graph, { model, options: whole }, (options.lanes ?? 1) - 1).catch(
    async (cause) => {
      await session.release();
      throw cause;
    },
  );
  return createExecutable(graph, session, lanes);
}

/**
 * After this thread's own session: only the first one of a process has its thread take tiny numbers for 0, and
 * threads inherit that (on Linux) from the one that starts them.
 */
async function startLanes(
  graph: Graph,
  model: Parameters<typeof startLane>[1],
  count: number,
): Promise<StartedLane[]> {
  const lanes: StartedLane[] = [];
  try {
    while (lanes.length < count) lanes.push(await startLane(graph, model, runtimeName));
  } catch (cause) {
    for (const lane of lanes) await lane.release();
    throw cause;
  }
  return lanes;
}

function refuseFaults(graph: Graph): void {
  const fault = findWebGpuFault(graph);
  if (fault === undefined) return;
  throw new AppError(
    'DEVICE_UNAVAILABLE',
    `The runtime computes part of this model wrongly on "webgpu": ${fault}.`,
    { action: 'Train on another device; the processor always works.' },
  );
}

function sessionOptions(
  { device, threads, spinning }: CompileOptions,
  weightBytes: number,
): ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [device],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    logSeverityLevel: errorSeverity,
    // Between two runs nobody spins: the next images are decoded then.
    extra: {
      session: {
        intra_op: { allow_spinning: '1', ...(spinning === true ? {} : { spin_duration_us: briefSpinUs }) },
        force_spinning_stop: '1',
        // Numbers below 1e-38 are as good as 0 and take a processor a hundred times as long.
        set_denormal_as_zero: '1',
        disable_prepacking: weightBytes > largestPackedBytes ? '1' : '0',
      },
    },
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  };
}

function compileError(device: DeviceKind, cause?: unknown): AppError {
  if (classifyRunError(cause) === 'out-of-memory') return runError(cause, runtimeName);
  if (device !== 'cpu') {
    return new AppError('DEVICE_UNAVAILABLE', `The device "${device}" could not be started for training.`, {
      cause,
    });
  }
  return new AppError('TRAINING_FAILED', 'The model could not be prepared for this computer.', { cause });
}

function createExecutable(
  graph: Graph,
  session: ort.InferenceSession,
  lanes: readonly StartedLane[],
): Executable {
  let released = false;
  return {
    ...(lanes.length === 0 ? {} : { beside: lanes }),
    async run(feeds) {
      if (released) throw new AppError('TRAINING_FAILED', 'The compiled model has already been released.');
      const inputs = toOrtTensors(checkFeeds(graph, feeds));
      let fetched: ort.InferenceSession.OnnxValueMapType;
      try {
        fetched = await session.run(inputs);
      } catch (cause) {
        throw runError(cause, runtimeName);
      }
      return fromOrt(fetched);
    },
    async release() {
      if (released) return;
      released = true;
      for (const lane of lanes) await lane.release();
      await session.release();
    },
  };
}

function fromOrt(values: ort.InferenceSession.OnnxValueMapType): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(values)) {
    if (!(value instanceof ort.Tensor)) throw new AppError('TRAINING_FAILED', `"${name}" is not a tensor.`);
    tensors[name] = {
      dtype: value.type as DataType,
      dims: value.dims,
      data: value.data as Float32Array,
    } as Tensor;
  }
  return tensors;
}
