/** One line at the bottom of the terminal that says what is being done. */

import type { Device } from '../../engine/engine.ts';
import { plural } from '../../shared/text.ts';

export interface ProgressLine {
  show(device: Device, next: { microBatch: number; threads: number }): void;
  clear(): void;
}

interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** Writes to terminals only: in a log the line would come again and again. */
export function createProgressLine(output: Output): ProgressLine {
  const write = (text: string): void => {
    if (output.isTTY === true) output.write(`\r\u001b[K${text}`);
  };
  return {
    show(device, { microBatch, threads }) {
      const images = plural(microBatch, 'image');
      const used = plural(threads, 'thread');
      const text = `Measuring ${device.engine} on ${device.kind}: ${images} at once, ${used} …`;
      write(text.slice(0, (output.columns ?? 80) - 1));
    },
    clear: () => write(''),
  };
}
