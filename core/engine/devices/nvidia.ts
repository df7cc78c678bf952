/** NVIDIA cards, their driver and the libraries that CUDA training needs. */
import { readFile } from 'node:fs/promises';
import { outputOf } from '../../process/child-process.ts';
import type { GraphicsCard } from './graphics-card.ts';

const toolTimeoutMs = 5_000;

/** CUDA 12 runs from these drivers on (NVIDIA's CUDA Toolkit Release Notes, "minor version compatibility"). */
const minDriver = { linux: 525, win32: 528 } as const;

/** Cards as `nvidia-smi` lists them; null when there is no such program or no working driver. */
export async function listNvidiaCards(): Promise<GraphicsCard[] | null> {
  const text = await outputOf(
    'nvidia-smi',
    ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader,nounits'],
    toolTimeoutMs,
  );
  return text === null ? null : parseNvidiaSmi(text);
}

/** @param text lines of `name, MiB, driver version`; other lines are passed over */
export function parseNvidiaSmi(text: string): GraphicsCard[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(.+), *(\d+|\[[^\]]*\]), *([\d.]+)\s*$/.exec(line);
    if (match === null) return [];
    const memoryMebibytes = Number(match[2]);
    return [
      {
        vendor: 'NVIDIA',
        name: match[1]!.trim(),
        driver: `nvidia ${match[3]!}`,
        ...(Number.isFinite(memoryMebibytes) ? { memoryBytes: memoryMebibytes * 2 ** 20 } : {}),
      },
    ];
  });
}

/** Version of the kernel's NVIDIA driver on Linux, also where `nvidia-smi` is not installed. */
export async function readNvidiaDriverVersion(): Promise<string | undefined> {
  try {
    return parseNvidiaDriverVersion(await readFile('/proc/driver/nvidia/version', 'utf8'));
  } catch {
    return undefined;
  }
}

export function parseNvidiaDriverVersion(text: string): string | undefined {
  return /NVRM version:.*?\b(\d+\.\d+(?:\.\d+)?)\b/.exec(text)?.[1];
}

/** @param driver as in a card's `driver`, for instance `nvidia 470.82` */
export function isTooOldForCuda12(driver: string, platform: NodeJS.Platform): boolean {
  const major = Number(/(\d+)\.\d+/.exec(driver)?.[1]);
  return Number.isFinite(major) && major < (platform === 'win32' ? minDriver.win32 : minDriver.linux);
}

/** What to get, by the name of a library that the CUDA provider did not find. */
export function describeCudaLibrary(library: string): string {
  if (/cudnn/i.test(library)) return 'cuDNN 9';
  if (/^libcuda\.so/.test(library)) return 'the NVIDIA driver';
  if (/cublas|cudart|cufft|curand|nvrtc|nvJitLink/i.test(library)) return 'CUDA 12';
  return library;
}
