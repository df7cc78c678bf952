/** What happens to the files of a data folder while nobody runs on it: a bit flips, or an older copy takes their place. */
import { readdirSync, statSync } from 'node:fs';
import { cp, open, readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Inflict } from './index.ts';

/** Folders of which a part can be had again: from the network, or by computing it anew. */
const replaceable = ['blobs', 'training'];

export const flipBit: Inflict<'bit-flip'> = async ({ federation, note }, { member, downMs, pick }) => {
  const agent = federation.agentOf(member);
  await agent.alone(async () => {
    await agent.kill();
    const files = replaceable.flatMap((name) => filesIn(join(agent.dataFolder, name))).sort();
    const file = files[Math.floor(pick[0] * files.length)];
    if (file !== undefined) {
      await flip(file, pick[1]);
      note(`${member}: one bit of ${relative(agent.dataFolder, file)}`);
    }
    await sleep(downMs);
    await agent.start();
  });
};

export const restoreFolder: Inflict<'restore'> = async ({ federation, note }, { member, downMs }) => {
  const agent = federation.agentOf(member);
  await agent.alone(async () => {
    await agent.kill();
    // The folder itself is a place where something may be mounted.
    for (const entry of await readdir(agent.dataFolder))
      await rm(join(agent.dataFolder, entry), { recursive: true, force: true });
    await cp(federation.snapshotOf(member), agent.dataFolder, { recursive: true });
    note(`${member}: restored`);
    await sleep(downMs);
    await agent.start();
  });
};

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).size > 0);
}

/** @param place in [0, 1) */
async function flip(file: string, place: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const { size } = await handle.stat();
    const at = Math.floor(place * size);
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte[0]! ^= 1 << (Math.floor(place * size * 8) % 8);
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}
