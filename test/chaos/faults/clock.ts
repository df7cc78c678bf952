/** A wrong wall clock: a layer that is loaded into the process (preload/clock.ts) reads the offset from a file. */
import { rm, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Inflict } from './index.ts';

export const jumpClock: Inflict<'clock-jump'> = async (
  { federation, clocksWrongSince },
  { member, lastsMs, offsetMs },
) => {
  if (!clocksWrongSince.has(member)) clocksWrongSince.set(member, Date.now());
  const { clockFile: file } = federation.agentOf(member);
  await writeFile(file, String(offsetMs));
  await sleep(lastsMs);
  await writeFile(file, '0');
  // Read by then; whoever starts later finds none.
  await sleep(500);
  await rm(file, { force: true });
};
