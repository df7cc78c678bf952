/** Memory of this process as the kernel counts it. */
import { readFileSync } from 'node:fs';

/**
 * Resident bytes: `VmRSS` now, `VmHWM` at most since the program began. Not getrusage's peak, which on Linux
 * takes in the memory of the process that started this one.
 */
export function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  try {
    const line = readFileSync('/proc/self/status', 'utf8').match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'));
    if (line) return Number(line[1]) * 1024;
  } catch {
    // Not Linux.
  }
  return field === 'VmRSS' ? process.memoryUsage.rss() : process.resourceUsage().maxRSS * 1024;
}
