/** What hardware and drivers this computer has; nothing here starts a runtime. */
import { findLibrary } from './find-library.ts';
import type { GraphicsCard } from './graphics-card.ts';
import { readDrmCards, readPciNames } from './graphics-linux.ts';
import { listMacCards } from './graphics-macos.ts';
import { listWindowsCards } from './graphics-windows.ts';
import { listNvidiaCards, readNvidiaDriverVersion } from './nvidia.ts';
import { describeProcessor, type Processor } from './processor.ts';
import { inspectVulkan, type VulkanState } from './vulkan.ts';

export interface Machine {
  platform: NodeJS.Platform;
  arch: string;
  processor: Processor;
  /** Hardware only. */
  cards: readonly GraphicsCard[];
  /** Linux only. */
  vulkan: VulkanState | null;
  /** Libraries of CUDA 12 and cuDNN 9 that are missing, by file name; empty where none is or nobody asked. */
  missingCudaLibraries: readonly string[];
}

/** What ONNX Runtime's CUDA provider links to (release notes of 1.30: CUDA 12, cuDNN 9). */
const cudaLibraries = [
  'libcuda.so.1',
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcufft.so.11',
  'libcudnn.so.9',
];

/** Looks at the computer; each program that it asks has a time limit, so this takes seconds at most. */
export async function inspectMachine(): Promise<Machine> {
  const [processor, nvidia, others, vulkan, missingCudaLibraries] = await Promise.all([
    describeProcessor(),
    process.platform === 'darwin' ? null : listNvidiaCards(),
    listSystemCards(),
    process.platform === 'linux' ? inspectVulkan() : null,
    process.platform === 'linux' ? findMissing(cudaLibraries) : [],
  ]);
  return {
    platform: process.platform,
    arch: process.arch,
    processor,
    cards: mergeCards(nvidia ?? [], others),
    vulkan,
    missingCudaLibraries,
  };
}

async function listSystemCards(): Promise<GraphicsCard[]> {
  if (process.platform === 'win32')
    return (await listWindowsCards()).filter((card) => card.software !== true);
  if (process.platform === 'darwin') return listMacCards();
  const [cards, nvidiaVersion] = await Promise.all([
    readDrmCards('/sys/class/drm', await readPciNames()),
    readNvidiaDriverVersion(),
  ]);
  if (nvidiaVersion === undefined) return cards;
  return cards.map((card) =>
    card.vendor === 'NVIDIA' ? { ...card, driver: `nvidia ${nvidiaVersion}` } : card,
  );
}

/** `nvidia-smi` knows names and memory better than the system; other makers' cards come from the system. */
export function mergeCards(nvidia: readonly GraphicsCard[], system: readonly GraphicsCard[]): GraphicsCard[] {
  if (nvidia.length === 0) return [...system];
  return [...nvidia, ...system.filter((card) => card.vendor !== 'NVIDIA')];
}

async function findMissing(libraries: readonly string[]): Promise<string[]> {
  const found = await Promise.all(libraries.map((library) => findLibrary(library)));
  return libraries.filter((_, index) => found[index] === undefined);
}
