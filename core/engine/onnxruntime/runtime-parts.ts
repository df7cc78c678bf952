/** Which parts of ONNX Runtime this installation has. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import type { DeviceKind } from '../engine.ts';

export type AcceleratorKind = Exclude<DeviceKind, 'cpu'>;

/**
 * Fetches what is too large for the npm package: the CUDA provider, a few hundred megabytes. The package would do
 * so at install, which our `.npmrc` forbids to every package.
 */
const cudaInstallCommand =
  'node node_modules/onnxruntime-node/script/install.js --onnxruntime-node-install=cuda12';

/** Why the runtime itself cannot offer a device, or undefined when it can. */
export function missingRuntime(kind: AcceleratorKind): string | undefined {
  const backend = ort.listSupportedBackends().find(({ name }) => name === kind);
  if (backend === undefined) return unsupportedReasons[kind];
  if (backend.bundled || existsSync(providerLibrary(kind))) return undefined;
  return `The CUDA part of ONNX Runtime is not installed. Fetch it with "${cudaInstallCommand}".`;
}

const unsupportedReasons: Record<AcceleratorKind, string> = {
  webgpu: 'ONNX Runtime has no WebGPU on this system.',
  cuda: 'ONNX Runtime for Node offers CUDA on Linux (x64) only.',
  dml: 'DirectML is part of Windows, and this is another system.',
  coreml: 'Core ML is part of macOS, and this is another system.',
};

/** Where a runtime library that does not come with the npm package has to lie. */
function providerLibrary(kind: AcceleratorKind): string {
  const packageFile = createRequire(import.meta.url).resolve('onnxruntime-node/package.json');
  const file =
    process.platform === 'win32'
      ? `onnxruntime_providers_${kind}.dll`
      : `libonnxruntime_providers_${kind}.so`;
  return path.join(path.dirname(packageFile), 'bin', 'napi-v6', process.platform, process.arch, file);
}
