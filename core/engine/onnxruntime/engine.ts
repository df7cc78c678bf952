/** The default engine: ONNX Runtime. Only the files of this folder import it. */
import type { Device, Engine } from '../engine.ts';
import { listDevices } from './devices.ts';
import { compile } from './session.ts';

export function createOnnxRuntimeEngine(): Engine {
  let devices: Promise<Device[]> | undefined;
  return {
    name: 'onnxruntime',
    async devices() {
      // Hardware does not come and go while we run; the probes take a moment.
      devices ??= listDevices();
      return [...(await devices)];
    },
    compile,
  };
}
