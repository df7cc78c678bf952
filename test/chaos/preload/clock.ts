/**
 * Loaded into an agent and what it starts, before anything else: a wall clock that is wrong by as much as a file says.
 * Timers and `performance.now()` go on as they do on a machine whose clock somebody set.
 */
import { readFileSync } from 'node:fs';

const file = process.env['ANNEAL_CHAOS_CLOCK'] ?? '';
const lookEveryMs = 100;
const RealDate = Date;
let offsetMs = 0;

function look(): void {
  try {
    const said: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof said === 'number' && Number.isFinite(said)) offsetMs = said;
  } catch (error) {
    // No file, no fault; half a file is read again.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') offsetMs = 0;
  }
}

const now = () => RealDate.now() + offsetMs;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, given, self) => Reflect.construct(target, given.length === 0 ? [now()] : given, self),
  apply: () => new RealDate(now()).toString(),
  get: (target, key, self) => (key === 'now' ? now : Reflect.get(target, key, self)),
});
look();
setInterval(look, lookEveryMs).unref();
