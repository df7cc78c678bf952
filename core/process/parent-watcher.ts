/** Worker thread of parent-watch.ts. */
import { workerData } from 'node:worker_threads';
import type { ParentWatch } from './parent-watch.ts';

const { pid, graceMs, lookEveryMs } = workerData as ParentWatch & { lookEveryMs: number };

/** On Unix an orphan gets another parent at once; Windows keeps the number, so that process is asked for itself. */
function isGone(): boolean {
  if (process.platform !== 'win32') return process.ppid !== pid;
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

const looking = setInterval(() => {
  if (!isGone()) return;
  clearInterval(looking);
  // The main thread may be computing: nothing is asked of it.
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), graceMs);
}, lookEveryMs);
