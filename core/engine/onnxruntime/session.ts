/** Compiling and running graphs in ONNX Runtime. */
import * as ort from 'onnxruntime-node';
import { encodeOnnxModelApart } from '../../graph/encode.ts';
import type { Graph, ValueType } from '../../graph/graph.ts';
import { lowerForProcessor } from '../../graph/optimise/processor.ts';
import { AppError } from '../../shared/errors.ts';
import { type DataType, elementCount, sameDims, type Tensor } from '../../shared/tensor.ts';
import type { CompileOptions, DeviceKind, Executable } from '../engine.ts';
import { classifyRunError } from '../run-error.ts';
import { missingRuntime } from './runtime-parts.ts';

const errorSeverity = 3;

export async function compile(graph: Graph, options: CompileOptions): Promise<Executable> {
  // Asked for a missing library, the runtime would write its path to the terminal.
  if (options.device !== 'cpu' && missingRuntime(options.device) !== undefined)
    throw compileError(options.device);
  const lowered = options.device === 'cpu' ? lowerForProcessor(graph) : graph;
  const { model, externalData } = encodeOnnxModelApart(lowered);
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(model, {
      ...sessionOptions(options),
      externalData,
    });
  } catch (cause) {
    throw compileError(options.device, cause);
  }
  return createExecutable(graph, session);
}

function sessionOptions({ device, threads, spinning }: CompileOptions): ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [device],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    logSeverityLevel: errorSeverity,
    // Between two runs nobody spins: the next pictures are decoded then.
    extra: {
      session: {
        intra_op: { allow_spinning: spinning === true ? '1' : '0' },
        force_spinning_stop: '1',
        // Numbers below 1e-38 are as good as 0 and take a processor a hundred times as long.
        set_denormal_as_zero: '1',
      },
    },
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  };
}

function compileError(device: DeviceKind, cause?: unknown): AppError {
  if (classifyRunError(cause) === 'out-of-memory') return runError(cause);
  if (device !== 'cpu') {
    return new AppError('DEVICE_UNAVAILABLE', `The device "${device}" could not be started for training.`, {
      cause,
    });
  }
  return new AppError('TRAINING_FAILED', 'The model could not be prepared for this computer.', { cause });
}

function createExecutable(graph: Graph, session: ort.InferenceSession): Executable {
  let released = false;
  return {
    async run(feeds) {
      if (released) throw new AppError('TRAINING_FAILED', 'The compiled model was released already.');
      const inputs = toOrtFeeds(graph, feeds);
      let fetched: ort.InferenceSession.OnnxValueMapType;
      try {
        fetched = await session.run(inputs);
      } catch (cause) {
        throw runError(cause);
      }
      return fromOrt(fetched);
    },
    async release() {
      if (released) return;
      released = true;
      await session.release();
    },
  };
}

function runError(cause: unknown): AppError {
  switch (classifyRunError(cause)) {
    case 'device-lost':
      return new AppError('DEVICE_UNAVAILABLE', 'The graphics processor stopped answering.', { cause });
    case 'out-of-memory':
      return new AppError('TRAINING_FAILED', 'There was not enough memory for this training step.', {
        action: 'Choose a smaller batch size, or close other programs.',
        cause,
      });
    default:
      return new AppError('TRAINING_FAILED', 'A training step failed in ONNX Runtime.', { cause });
  }
}

/** @throws AppError SHAPE_MISMATCH when a feed is missing or not of the type the graph declares */
function toOrtFeeds(graph: Graph, feeds: Readonly<Record<string, Tensor>>): Record<string, ort.Tensor> {
  const inputs: Record<string, ort.Tensor> = {};
  for (const name of graph.inputs) {
    const tensor = feeds[name];
    if (tensor === undefined) throw new AppError('SHAPE_MISMATCH', `The input "${name}" was not given.`);
    checkFeed(name, tensor, graph.types.get(name)!);
    inputs[name] = new ort.Tensor(tensor.dtype, tensor.data as never, [...tensor.dims]);
  }
  return inputs;
}

function checkFeed(name: string, tensor: Tensor, type: ValueType): void {
  if (tensor.dtype !== type.dtype || !sameDims(tensor.dims, type.dims)) {
    throw new AppError(
      'SHAPE_MISMATCH',
      `The input "${name}" is ${tensor.dtype} [${tensor.dims.join(', ')}] instead of ${type.dtype} [${type.dims.join(', ')}].`,
    );
  }
  if (tensor.data.length !== elementCount(tensor.dims)) {
    throw new AppError('SHAPE_MISMATCH', `The input "${name}" has ${tensor.data.length} values.`);
  }
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
