/** The engines by name; each is loaded when it is first asked for, since its runtime is large. */
import type { Engine, EngineName } from './engine.ts';

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
