/** Which devices ONNX Runtime can use on this machine. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import type { Device, DeviceKind } from '../engine.ts';

export type AcceleratorKind = Exclude<DeviceKind, 'cpu'>;

const deviceLabels: Record<AcceleratorKind, string> = {
  webgpu: 'Graphics processor (WebGPU)',
  cuda: 'NVIDIA graphics processor (CUDA)',
  dml: 'Graphics processor (DirectML)',
  coreml: 'Apple processor (Core ML)',
};

const acceleratorKinds = Object.keys(deviceLabels) as AcceleratorKind[];
const probeTimeoutMs = 20_000;

/** What this machine offers; the processor comes first. */
export async function listDevices(): Promise<Device[]> {
  const accelerators = await Promise.all(acceleratorKinds.map(describeAccelerator));
  return [{ engine: 'onnxruntime', kind: 'cpu', name: processorName(), available: true }, ...accelerators];
}

async function describeAccelerator(kind: AcceleratorKind): Promise<Device> {
  const reason = missingRuntime(kind) ?? (await probe(kind));
  const device = {
    engine: 'onnxruntime' as const,
    kind,
    name: deviceLabels[kind],
    available: reason === undefined,
  };
  return reason === undefined ? device : { ...device, reason };
}

/** Why the runtime itself cannot offer a device, or undefined when it can. */
export function missingRuntime(kind: AcceleratorKind): string | undefined {
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
