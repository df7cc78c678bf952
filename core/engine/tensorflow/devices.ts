/** Which devices TensorFlow can use on this machine. Nothing of TensorFlow is loaded into this process. */
import os from 'node:os';
import { AppError } from '../../shared/errors.ts';
import type { Device } from '../engine.ts';
import { readInstallation } from './installation.ts';
import { type ProbeAnswer, probeNative } from './probe.ts';

const setupAdvice = 'run "npm run setup:tensorflow"';
const gpuName = 'NVIDIA graphics processor (TensorFlow)';

/** @param folder where the native library is installed, if it is */
export async function listDevices(folder: string): Promise<Device[]> {
  const processor = os.cpus()[0]?.model.trim() || 'Processor';
  try {
    if (readInstallation(folder) === undefined) return withoutLibrary(processor);
  } catch (thrown) {
    if (!(thrown instanceof AppError)) throw thrown;
    return withFailure(processor, `${thrown.message} ${thrown.action}`);
  }
  const answer = await probeNative('cuda', folder);
  if ('failure' in answer) return withFailure(processor, `${answer.failure} To repair it, ${setupAdvice}.`);
  return [cpu(`${processor} (TensorFlow ${answer.report.version})`), describeGpu(answer)];
}

function cpu(name: string): Device {
  return { engine: 'tensorflow', kind: 'cpu', name, available: true };
}

function gpu(reason: string): Device {
  return { engine: 'tensorflow', kind: 'cuda', name: gpuName, available: false, reason };
}

function withoutLibrary(processor: string): Device[] {
  return [
    cpu(`${processor} (TensorFlow.js in WebAssembly, slow)`),
    gpu(`The TensorFlow library is not installed: ${setupAdvice}.`),
  ];
}

function withFailure(processor: string, reason: string): Device[] {
  return [{ ...cpu(`${processor} (TensorFlow)`), available: false, reason }, gpu(reason)];
}

function describeGpu({ report, missing }: Exclude<ProbeAnswer, { failure: string }>): Device {
  if (report.usesGpu) return { engine: 'tensorflow', kind: 'cuda', name: gpuName, available: true };
  if (missing.length > 0) {
    return gpu(
      `TensorFlow ${report.version} cannot find ${missing.join(', ')}: install the versions of CUDA and cuDNN that it needs.`,
    );
  }
  return gpu(
    `TensorFlow ${report.version} finds no such device: there is no NVIDIA card with a working driver, or the installed library is the one for processors.`,
  );
}
