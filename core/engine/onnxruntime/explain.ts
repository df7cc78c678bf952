/** Why a device cannot be used, in words that say what to install. */
import type { GraphicsCard } from '../devices/graphics-card.ts';
import type { Machine } from '../devices/machine.ts';
import { describeCudaLibrary, isTooOldForCuda12 } from '../devices/nvidia.ts';
import type { ProbeFailure } from './probe.ts';
import type { AcceleratorKind } from './runtime-parts.ts';

/** @param failure how the probe on the device went wrong */
export function explainFailure(kind: AcceleratorKind, machine: Machine, failure: ProbeFailure): string {
  if (failure.how === 'timeout') return 'Its driver did not answer within 20 seconds.';
  const missing = kind === 'cuda' ? explainCuda(machine, failure) : explainGraphics(kind, machine);
  if (missing !== undefined) return missing;
  if (failure.how === 'crashed')
    return 'Its driver crashed in a test; install the latest driver from its maker.';
  return 'Its driver refused a test; install the latest driver from its maker.';
}

/** Before the runtime's own parts are looked at: what would be of no use. */
export function explainNoHardware(kind: AcceleratorKind, machine: Machine): string | undefined {
  if (kind !== 'cuda' || machine.platform === 'darwin') return undefined;
  const nvidia = machine.cards.find((card) => card.vendor === 'NVIDIA');
  return nvidia === undefined && machine.missingCudaLibraries.includes('libcuda.so.1')
    ? 'No NVIDIA graphics card with its driver was found.'
    : undefined;
}

/** What training with CUDA will want next, when its part of the runtime is not there yet. */
export function furtherNeeds(kind: AcceleratorKind, machine: Machine): string {
  const wanted = kind === 'cuda' ? [...new Set(machine.missingCudaLibraries.map(describeCudaLibrary))] : [];
  return wanted.length === 0 ? '' : ` It also needs ${listWords(wanted)}, which was not found here.`;
}

/** `a, b and c`. */
function listWords(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} and ${words.at(-1)!}`;
}

function explainCuda(machine: Machine, failure: ProbeFailure): string | undefined {
  const driver = machine.cards.find((card) => card.vendor === 'NVIDIA')?.driver;
  if (driver !== undefined && isTooOldForCuda12(driver, machine.platform)) {
    return `The driver (${driver}) is too old for CUDA 12; install version ${machine.platform === 'win32' ? 528 : 525} or newer.`;
  }
  const named = /(lib[\w.-]+\.so[.\d]*): cannot open shared object file/.exec(failure.text)?.[1];
  const libraries = named === undefined ? machine.missingCudaLibraries : [named];
  if (libraries.length === 0) {
    return /no CUDA-capable device/i.test(failure.text) ? 'CUDA found no NVIDIA graphics card.' : undefined;
  }
  const wanted = listWords([...new Set(libraries.map(describeCudaLibrary))]);
  return `Install ${wanted}: the library ${libraries[0]!} was not found.`;
}

function explainGraphics(kind: AcceleratorKind, machine: Machine): string | undefined {
  if (kind !== 'webgpu') return machine.cards.length === 0 ? noCard : undefined;
  if (machine.vulkan === null) {
    if (machine.cards.length > 0) return undefined;
    return machine.platform === 'win32' ? `${noCard} WebGPU needs one with Direct3D 12.` : noCard;
  }
  const { hasLoader, drivers } = machine.vulkan;
  const [card] = machine.cards;
  const found = card === undefined ? `${noCard} ` : '';
  if (!hasLoader) {
    const also = drivers.length === 0 && card !== undefined ? ` ${installDriver(card)}` : '';
    return `${found}The Vulkan loader (libvulkan.so.1) is missing: install the package libvulkan1 (Debian, Ubuntu) or vulkan-loader (Fedora, RHEL).${also}`;
  }
  if (drivers.length > 0) return undefined;
  return `${found}Vulkan has no driver. ${card === undefined ? 'In a container, pass the graphics card through.' : installDriver(card)}`;
}

const noCard = 'No graphics card was found.';

function installDriver(card: GraphicsCard): string {
  return card.vendor === 'NVIDIA'
    ? "For this card install NVIDIA's own driver with its Vulkan part (Debian: nvidia-vulkan-icd)."
    : 'For this card install the package mesa-vulkan-drivers.';
}
