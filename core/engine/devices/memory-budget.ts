/** How much memory training may take without pushing out what else runs on the computer. */
import os from 'node:os';
import type { Device } from '../engine.ts';

const gibibyte = 2 ** 30;

/** Never less than this share of what is free, so that a full computer still gets an answer. */
const leastShare = 0.5;
/** A graphics card also draws the screens. */
const cardShare = 0.85;

export interface HostMemory {
  totalBytes: number;
  availableBytes: number;
}

export function readHostMemory(): HostMemory {
  const totalBytes = Math.min(os.totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  const freeBytes = Math.min(process.availableMemory(), totalBytes);
  // macOS counts as free only what nobody has used yet; it gives back cached pages when somebody asks.
  const availableBytes = process.platform === 'darwin' ? Math.max(freeBytes, totalBytes / 4) : freeBytes;
  return { totalBytes, availableBytes };
}

/** What is free less a reserve of a tenth of all memory, at least half and at most 4 GiB. */
export function hostBudgetBytes({ totalBytes, availableBytes }: HostMemory): number {
  const reserve = Math.min(4 * gibibyte, Math.max(gibibyte / 2, totalBytes / 10));
  return Math.floor(Math.max(availableBytes - reserve, availableBytes * leastShare));
}

/** Of the device's own memory where it has some, else of the computer's. */
export function deviceBudgetBytes(device: Device, host: HostMemory): number {
  const own = device.kind === 'cpu' || device.software === true ? undefined : device.memoryBytes;
  return own === undefined ? hostBudgetBytes(host) : Math.floor(own * cardShare);
}
