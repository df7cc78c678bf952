/** A real full disk: the data folder lies on a small file system of its own, which a file fills. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fillDisk, freeDisk } from '../disk.ts';
import type { Inflict } from './index.ts';

export const fillDiskFor: Inflict<'full-disk'> = async (
  { federation, note },
  { member, lastsMs, leftKib },
) => {
  const { folder } = federation.agentOf(member);
  if (!fillDisk(folder, leftKib * 1024)) {
    note(`${member}: no disk of its own to fill`);
    return;
  }
  try {
    await sleep(lastsMs);
  } finally {
    freeDisk(folder);
  }
};
