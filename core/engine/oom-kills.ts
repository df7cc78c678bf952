/** Whether the system's own memory guard has ended processes. */
import { readFileSync } from 'node:fs';

/**
 * How many processes Linux has ended for lack of memory since it started, in this system or container.
 * Source: https://docs.kernel.org/filesystems/proc.html, `oom_kill` in /proc/vmstat.
 * @returns undefined where the system does not tell
 */
export function countOomKills(): number | undefined {
  try {
    const found = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}
