/** The one interface to a runtime. Only its implementations import a runtime. */
import type { Graph } from '../graph/graph.ts';
import type { Tensor } from '../shared/tensor.ts';

export type DeviceKind = 'cpu' | 'webgpu' | 'cuda' | 'dml' | 'coreml';

export interface Device {
  kind: DeviceKind;
  /** What a person calls it, for instance the processor's name. */
  name: string;
  available: boolean;
  /** Why it is not available, in plain words. */
  reason?: string;
}

export interface CompileOptions {
  device: DeviceKind;
  /** Intra-operator threads; the runtime's default when absent. */
  threads?: number;
}

/** A compiled graph with fixed shapes. */
export interface Executable {
  /** @throws AppError TRAINING_FAILED when the runtime fails, DEVICE_UNAVAILABLE when the device is lost */
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

export interface Engine {
  readonly name: 'onnxruntime' | 'tensorflow';
  devices(): Promise<Device[]>;
  compile(graph: Graph, options: CompileOptions): Promise<Executable>;
}
