/** The engines by name; each is loaded when it is first asked for, since its runtime is large. */
import { AppError } from '../shared/errors.ts';
import { type Device, type Engine, type EngineName, engineNames } from './engine.ts';

export const engineTitles: Record<EngineName, string> = {
  onnxruntime: 'ONNX Runtime',
  tensorflow: 'TensorFlow',
};

const loaded = new Map<EngineName, Promise<Engine>>();

/** @throws AppError DEVICE_UNAVAILABLE when the engine is not part of this installation */
export function loadEngine(name: EngineName): Promise<Engine> {
  const known = loaded.get(name);
  if (known) return known;
  const engine = loaders[name]();
  loaded.set(name, engine);
  engine.catch(() => loaded.delete(name));
  return engine;
}

const loaders: Record<EngineName, () => Promise<Engine>> = {
  onnxruntime: async () => (await import('./onnxruntime/engine.ts')).createOnnxRuntimeEngine(),
  tensorflow: async () => (await import('./tensorflow/engine.ts')).createTensorFlowEngine(),
};

/** The default engine's devices come first. An engine that cannot be loaded is listed with the reason. */
export async function listAllDevices(): Promise<Device[]> {
  const perEngine = await Promise.all(engineNames.map(devicesOf));
  return perEngine.flat();
}

async function devicesOf(name: EngineName): Promise<Device[]> {
  try {
    return await (await loadEngine(name)).devices();
  } catch (thrown) {
    const reason = thrown instanceof AppError ? thrown.message : 'It could not be loaded.';
    return [{ engine: name, kind: 'cpu', name: engineTitles[name], available: false, reason }];
  }
}
