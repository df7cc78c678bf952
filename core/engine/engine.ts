/** The one interface to a runtime. Only its implementations import a runtime. */
import type { Graph } from '../graph/graph.ts';
import type { Tensor } from '../shared/tensor.ts';

export const engineNames = ['onnxruntime', 'tensorflow'] as const;
export type EngineName = (typeof engineNames)[number];

export const deviceKinds = ['cpu', 'webgpu', 'cuda', 'dml', 'coreml'] as const;
export type DeviceKind = (typeof deviceKinds)[number];

export interface Device {
  engine: EngineName;
  kind: DeviceKind;
  /** What a person calls it, for instance the processor's name. */
  name: string;
  available: boolean;
  /** Maker of the hardware, its memory and its driver, as far as the system tells. */
  vendor?: string;
  memoryBytes?: number;
  driver?: string;
  /** What else helps to tell it apart, for instance cores and vector instructions. */
  details?: string;
  /** A program that computes on the processor in place of graphics hardware, such as SwiftShader. */
  software?: boolean;
  /** Why it is not available, in plain words. */
  reason?: string;
}

export interface CompileOptions {
  device: DeviceKind;
  /** Intra-operator threads; the runtime's default when absent. */
  threads?: number;
  /**
   * Threads wait for work by spinning without end: a little faster, but the processor is taken from everything else.
   * Off by default, because several trainers or the agent may share the machine; they spin for moments only.
   */
  spinning?: boolean;
  /**
   * Threads of the process that each compute the whole graph, with `threads` of their own; 1 when absent. An engine
   * may not have more than one, see {@link Executable.beside}.
   */
  lanes?: number;
}

/** A compiled graph with fixed shapes. */
export interface Executable {
  /** @throws AppError TRAINING_FAILED when the runtime fails, DEVICE_UNAVAILABLE when the device is lost */
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  /** The lanes that compute at the same time as `run`; absent when there are none. */
  readonly beside?: readonly Lane[];
  release(): Promise<void>;
}

/** A thread with the same compiled graph. */
export interface Lane {
  /**
   * Has copied the feeds when it returns. One run at a time: the next one uses the outputs' memory again.
   * @throws AppError what {@link Executable.run} throws; LaneEndedError when the thread is gone
   */
  start(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
}

export interface Engine {
  readonly name: EngineName;
  devices(): Promise<Device[]>;
  compile(graph: Graph, options: CompileOptions): Promise<Executable>;
}
