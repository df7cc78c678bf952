/** Builds what a command started from a checkout needs, if it is not there yet. Says so on standard error. */
import { ensureBuilt } from './ensure-built.ts';

const built = await ensureBuilt();
if (built.length > 0) process.stderr.write(`Built: ${built.join(', ')}.\n`);
