/**
 * Loads the native library into this process. tfjs-node's own entry file looks for its addon in node_modules;
 * its backend is put together here instead, around the addon that `npm run setup:tensorflow` installed.
 */
import { createRequire } from 'node:module';
import util from 'node:util';
import * as tf from '@tensorflow/tfjs';
import { AppError } from '../../shared/errors.ts';
import type { Installation } from './installation.ts';

export const nativeBackendName = 'tensorflow';
const packageName = '@tensorflow/tfjs-node-gpu';

interface NativeBinding {
  readonly TF_Version: string;
  isUsingGpuDevice(): boolean;
}

interface BackendModule {
  NodeJSKernelBackend: new (binding: NativeBinding, packageName: string) => tf.KernelBackend;
}

export interface NativeSettings {
  /** Without it the library is kept from graphics processors. */
  readonly gpu: boolean;
  readonly threads?: number;
}

export interface NativeLibrary {
  readonly version: string;
  readonly usesGpu: boolean;
}

let loaded: { library: NativeLibrary; settings: NativeSettings; addonFile: string } | undefined;

/** tfjs-node 4.22 calls functions that Node 23 took away or warns of. They are put back before it is loaded. */
function restoreUtilFunctions(): void {
  const functions = util as unknown as Record<string, unknown>;
  functions['isNullOrUndefined'] = (value: unknown) => value === null || value === undefined;
  functions['isArray'] = Array.isArray;
}

/** The library reads its settings from the environment when it is loaded. */
function prepareEnvironment({ gpu, threads }: NativeSettings): void {
  process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';
  // By default TensorFlow takes the whole memory of the graphics processor at once.
  process.env['TF_FORCE_GPU_ALLOW_GROWTH'] ??= 'true';
  if (!gpu) process.env['CUDA_VISIBLE_DEVICES'] = '-1';
  if (threads !== undefined) process.env['TF_NUM_INTRAOP_THREADS'] = String(threads);
}

/**
 * Registers the backend with tfjs; a second call with the same settings does nothing. A process holds one
 * native library: with or without the graphics processor.
 * @throws AppError DEVICE_UNAVAILABLE with what is missing
 */
export function loadNativeBackend(installation: Installation, settings: NativeSettings): NativeLibrary {
  if (loaded !== undefined) return loadedFor(installation, settings);
  restoreUtilFunctions();
  prepareEnvironment(settings);
  const require = createRequire(import.meta.url);
  try {
    const binding = require(installation.addonFile) as NativeBinding;
    require(`${packageName}/dist/register_all_kernels`);
    const { NodeJSKernelBackend } = require(`${packageName}/dist/nodejs_kernel_backend`) as BackendModule;
    tf.registerBackend(nativeBackendName, () => new NodeJSKernelBackend(binding, packageName));
    const library = { version: binding.TF_Version, usesGpu: binding.isUsingGpuDevice() };
    loaded = { library, settings, addonFile: installation.addonFile };
    return library;
  } catch (cause) {
    throw new AppError('DEVICE_UNAVAILABLE', `The TensorFlow library does not load: ${loadFailure(cause)}.`, {
      action: 'Run "npm run setup:tensorflow" again, or train with the engine "onnxruntime".',
      cause,
    });
  }
}

/** The library that this process holds already, if it serves these settings too. */
function loadedFor({ addonFile }: Installation, { gpu }: NativeSettings): NativeLibrary {
  const { library, settings, addonFile: present } = loaded!;
  if (present === addonFile && (gpu ? settings.gpu : !library.usesGpu)) return library;
  throw new AppError('DEVICE_UNAVAILABLE', 'TensorFlow already runs on another device in this process.');
}

/** Whether this process computes on a graphics processor, which the library cannot leave again. */
export function holdsGraphics(): boolean {
  return loaded?.library.usesGpu === true;
}

/** The loader's words without its paths. */
export function loadFailure(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause);
  const library = /([\w.+-]+\.(?:so|dll|dylib)[\w.]*): cannot open shared object/.exec(text)?.[1];
  if (library !== undefined) return `${library} is missing`;
  if (/undefined symbol|wrong ELF class|invalid ELF header|not a valid Win32/i.test(text)) {
    return 'it was built for another system or another version';
  }
  if (/Cannot find module/.test(text)) return `the package ${packageName} is not part of this installation`;
  return 'the system refused it';
}
