/** Chooses the tfjs backend for a device: the native library where it is installed, else WebAssembly. */
import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { AppError } from '../../shared/errors.ts';
import type { CompileOptions } from '../engine.ts';
import { readInstallation } from './installation.ts';
import { holdsGraphics, loadNativeBackend, nativeBackendName } from './native-backend.ts';

export const wasmBackendName = 'wasm';

/**
 * Makes the backend for a device ready and returns its name.
 * @param folder where the native library is installed, if it is
 * @throws AppError DEVICE_UNAVAILABLE with what is missing
 */
export async function startBackend(folder: string, options: CompileOptions): Promise<string> {
  const { device, threads } = options;
  if (device !== 'cpu' && device !== 'cuda') {
    throw new AppError('DEVICE_UNAVAILABLE', `TensorFlow has no device "${device}".`, {
      action: 'Use the engine "onnxruntime" for this device.',
    });
  }
  tf.enableProdMode();
  const installation = readInstallation(folder);
  if (installation === undefined) {
    if (device === 'cuda') throw missingLibrary();
    await startWasm();
    return wasmBackendName;
  }
  const gpu = device === 'cuda';
  // A run whose graphics processor failed goes on here, slowly; the library serves one device per process.
  if (!gpu && holdsGraphics()) {
    await startWasm();
    return wasmBackendName;
  }
  const library = loadNativeBackend(installation, { gpu, ...(threads === undefined ? {} : { threads }) });
  if (gpu && !library.usesGpu) throw missingGpu(library.version);
  await selectBackend(nativeBackendName);
  return nativeBackendName;
}

/** Tensors made from now on belong to this backend. */
export async function selectBackend(name: string): Promise<void> {
  if (tf.getBackend() === name) return;
  if (!(await tf.setBackend(name))) {
    throw new AppError('DEVICE_UNAVAILABLE', 'TensorFlow could not be started on this device.');
  }
}

async function startWasm(): Promise<void> {
  if (tf.findBackend(wasmBackendName) === null) {
    // The folder of the binaries: beside the package's entry file.
    const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
    setWasmPaths(dirname(entry) + sep);
  }
  await selectBackend(wasmBackendName);
}

function missingLibrary(): AppError {
  return new AppError('DEVICE_UNAVAILABLE', 'The TensorFlow library is not installed.', {
    action: 'Run "npm run setup:tensorflow".',
  });
}

function missingGpu(version: string): AppError {
  return new AppError(
    'DEVICE_UNAVAILABLE',
    `TensorFlow ${version} found no NVIDIA graphics processor that it can use.`,
    { action: 'Run "anneal doctor" to see what is missing: the card, its driver or the CUDA libraries.' },
  );
}
