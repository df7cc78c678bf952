/**
 * The TensorFlow engine: the same graph through the operations of TensorFlow.js, on libtensorflow where
 * `npm run setup:tensorflow` has installed it, else on tfjs's WebAssembly backend. Only the files of this
 * folder import TensorFlow.js for training.
 */
import type { Device, Engine } from '../engine.ts';
import { listDevices } from './devices.ts';
import { tensorFlowFolder } from './installation.ts';

export interface TensorFlowEngineOptions {
  /** Where the native library is installed; {@link tensorFlowFolder} when absent. */
  folder?: string;
}

/**
 * `cpu` runs on libtensorflow where it is installed, else on WebAssembly (the device's name says which);
 * `cuda` needs it. A process trains on one of the two: the library is loaded with or without graphics.
 */
export function createTensorFlowEngine(options: TensorFlowEngineOptions = {}): Engine {
  const folder = options.folder ?? tensorFlowFolder();
  let devices: Promise<Device[]> | undefined;
  return {
    name: 'tensorflow',
    async devices() {
      devices ??= listDevices(folder);
      return [...(await devices)];
    },
    async compile(graph, compileOptions) {
      // Loaded here and not above, so that listing devices does not load TensorFlow.js into the agent.
      const { compile } = await import('./session.ts');
      return compile(folder, graph, compileOptions);
    },
  };
}
