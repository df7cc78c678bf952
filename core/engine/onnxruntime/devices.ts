/** Which devices ONNX Runtime can use on this machine, under the names that their owner knows. */
import type { GraphicsCard } from '../devices/graphics-card.ts';
import { inspectMachine, type Machine } from '../devices/machine.ts';
import { describeProcessorDetails } from '../devices/processor.ts';
import type { Device } from '../engine.ts';
import { explainFailure, explainNoHardware, furtherNeeds } from './explain.ts';
import { probeDevice } from './probe.ts';
import { type AcceleratorKind, missingRuntime } from './runtime-parts.ts';

const acceleratorKinds = ['webgpu', 'cuda', 'dml', 'coreml'] as const satisfies AcceleratorKind[];

const genericNames: Record<AcceleratorKind, string> = {
  webgpu: 'Graphics processor (WebGPU)',
  cuda: 'NVIDIA graphics processor (CUDA)',
  dml: 'Graphics processor (DirectML)',
  coreml: 'Apple processor (Core ML)',
};

/** What this machine offers; the processor comes first. Asking takes seconds at most. */
export async function listDevices(): Promise<Device[]> {
  const machine = await inspectMachine();
  const accelerators = await Promise.all(acceleratorKinds.map((kind) => tryDevice(kind, machine)));
  return [describeCpu(machine), ...accelerators];
}

function describeCpu({ processor }: Machine): Device {
  return {
    engine: 'onnxruntime',
    kind: 'cpu',
    name: processor.name,
    available: true,
    ...(processor.vendor === undefined ? {} : { vendor: processor.vendor }),
    memoryBytes: processor.memoryBytes,
    details: describeProcessorDetails(processor),
  };
}

async function tryDevice(kind: AcceleratorKind, machine: Machine): Promise<Device> {
  const unusable = explainNoHardware(kind, machine);
  if (unusable !== undefined) return describeAccelerator(kind, machine, unusable);
  const missing = missingRuntime(kind);
  if (missing !== undefined)
    return describeAccelerator(kind, machine, `${missing}${furtherNeeds(kind, machine)}`);
  const failure = await probeDevice(kind);
  return describeAccelerator(kind, machine, failure && explainFailure(kind, machine, failure));
}

/** @param reason why it cannot be used; undefined when it can */
export function describeAccelerator(
  kind: AcceleratorKind,
  machine: Machine,
  reason: string | undefined,
): Device {
  const card = hardwareOf(kind, machine);
  return {
    engine: 'onnxruntime',
    kind,
    name: card?.name ?? genericNames[kind],
    available: reason === undefined,
    ...(card === undefined ? {} : { vendor: card.vendor }),
    ...(card?.memoryBytes === undefined ? {} : { memoryBytes: card.memoryBytes }),
    ...(card?.driver === undefined ? {} : { driver: card.driver }),
    ...(card?.software === true ? { software: true } : {}),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** The card that a provider takes by itself: the fastest, which is the one with the most memory of its own. */
function hardwareOf(kind: AcceleratorKind, machine: Machine): GraphicsCard | undefined {
  const cards = [...machine.cards].sort((a, b) => (b.memoryBytes ?? 0) - (a.memoryBytes ?? 0));
  if (kind === 'cuda') return cards.find((card) => card.vendor === 'NVIDIA');
  if (kind === 'dml') return machine.platform === 'win32' ? cards[0] : undefined;
  if (kind === 'coreml') return machine.platform === 'darwin' ? cards[0] : undefined;
  return machine.vulkan === null ? cards[0] : vulkanHardware(cards, machine);
}

/** What Vulkan lists counts more than what is in the computer: a card without a Vulkan driver is of no use. */
function vulkanHardware(cards: readonly GraphicsCard[], { vulkan }: Machine): GraphicsCard | undefined {
  const [listed] = vulkan?.devices ?? [];
  if (listed !== undefined) {
    const same = cards.find((card) => card.vendor === listed.vendor && listed.software !== true);
    return { ...same, ...listed };
  }
  const drivers = vulkan?.drivers ?? [];
  if (drivers.length === 0 || drivers.some((driver) => !driver.software)) return cards[0];
  const name = /swiftshader/i.test(drivers[0]!.library) ? 'SwiftShader' : 'llvmpipe (Mesa)';
  return { vendor: 'none', name: `${name}, a software renderer`, software: true };
}
