/** The default engine: ONNX Runtime. The only file that imports it. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { encodeOnnxModel } from '../graph/encode.ts';
import type { Graph, ValueType } from '../graph/graph.ts';
import { AppError } from '../shared/errors.ts';
import { type DataType, elementCount, sameDims, type Tensor } from '../shared/tensor.ts';
import type { CompileOptions, Device, DeviceKind, Engine, Executable } from './engine.ts';

type AcceleratorKind = Exclude<DeviceKind, 'cpu'>;

const deviceLabels: Record<AcceleratorKind, string> = {
  webgpu: 'Graphics processor (WebGPU)',
  cuda: 'NVIDIA graphics processor (CUDA)',
  dml: 'Graphics processor (DirectML)',
  coreml: 'Apple processor (Core ML)',
};

const acceleratorKinds = Object.keys(deviceLabels) as AcceleratorKind[];
const errorSeverity = 3;

const probeTimeoutMs = 20_000;

export function createOnnxRuntimeEngine(): Engine {
  let accelerators: Promise<Device[]> | undefined;
  return {
    name: 'onnxruntime',
    async devices() {
      // Hardware does not come and go while we run; the probes take a moment.
      accelerators ??= Promise.all(acceleratorKinds.map(describeAccelerator));
      return [{ kind: 'cpu', name: processorName(), available: true }, ...(await accelerators)];
    },
    compile,
  };
}

async function describeAccelerator(kind: AcceleratorKind): Promise<Device> {
  const reason = missingRuntime(kind) ?? (await probe(kind));
  const device = { kind, name: deviceLabels[kind], available: reason === undefined };
  return reason === undefined ? device : { ...device, reason };
}

/** Why the runtime itself cannot offer a device, or undefined when it can. */
function missingRuntime(kind: AcceleratorKind): string | undefined {
  const backend = ort.listSupportedBackends().find(({ name }) => name === kind);
  if (backend === undefined) return 'ONNX Runtime does not offer it on this system.';
  if (backend.bundled || existsSync(providerLibrary(kind))) return undefined;
  return 'Its runtime library is not part of this installation.';
}

/** Where a runtime library that does not come with the npm package has to lie. */
function providerLibrary(kind: AcceleratorKind): string {
  const packageFile = createRequire(import.meta.url).resolve('onnxruntime-node/package.json');
  const file =
    process.platform === 'win32'
      ? `onnxruntime_providers_${kind}.dll`
      : `libonnxruntime_providers_${kind}.so`;
  return path.join(path.dirname(packageFile), 'bin', 'napi-v6', process.platform, process.arch, file);
}

/** Computes something small on the device in another process. @returns why it failed, undefined when it did not */
function probe(kind: AcceleratorKind): Promise<string | undefined> {
  const script = fileURLToPath(new URL('./probe-device.ts', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [script, kind], { timeout: probeTimeoutMs, windowsHide: true }, (error) =>
      resolve(error === null ? undefined : 'No graphics processor with a working driver was found.'),
    );
  });
}

function processorName(): string {
  return os.cpus()[0]?.model.trim() || 'Processor';
}

async function compile(graph: Graph, options: CompileOptions): Promise<Executable> {
  // Asked for a missing library, the runtime would write its path to the terminal.
  if (options.device !== 'cpu' && missingRuntime(options.device) !== undefined)
    throw compileError(options.device);
  const model = encodeOnnxModel(graph);
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(model, sessionOptions(options));
  } catch (cause) {
    throw compileError(options.device, cause);
  }
  return createExecutable(graph, session);
}

function sessionOptions({ device, threads }: CompileOptions): ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [device],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    logSeverityLevel: errorSeverity,
    // Threads that wait by spinning take the processor away from other trainers and from the agent.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  };
}

function compileError(device: DeviceKind, cause?: unknown): AppError {
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
  const text = cause instanceof Error ? cause.message : String(cause);
  if (/device.{0,20}(lost|removed|hung)/i.test(text)) {
    return new AppError('DEVICE_UNAVAILABLE', 'The graphics processor stopped answering.', { cause });
  }
  if (/bad_alloc|out of memory|failed to allocate/i.test(text)) {
    return new AppError('TRAINING_FAILED', 'There was not enough memory for this training step.', {
      action: 'Choose a smaller batch size, or close other programs.',
      cause,
    });
  }
  return new AppError('TRAINING_FAILED', 'A training step failed in ONNX Runtime.', { cause });
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
