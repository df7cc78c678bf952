/** The devices of every engine of this installation. */
import { AppError } from '../../shared/errors.ts';
import { type Device, type EngineName, engineNames } from '../engine.ts';
import { loadEngine } from '../engines.ts';

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

const engineTitles: Record<EngineName, string> = { onnxruntime: 'ONNX Runtime', tensorflow: 'TensorFlow' };
