/** One bit of a file at rest is another one, while nobody runs on the data folder. What was there is kept, as in a backup. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256 } from '../../../core/shared/hash.ts';
import { flipBit as flip } from '../../fixtures/flip-bit.ts';
import type { FlipEntry, Inflict, World } from './index.ts';

/** Folders of which a part can be had again: from the network, or by computing it anew. */
const replaceable = ['blobs', 'training'];

export const flipBit: Inflict<'bit-flip'> = async (world, { member, downMs, pick }) => {
  const agent = world.federation.agentOf(member);
  await agent.alone(async () => {
    await agent.kill();
    const files = replaceable.flatMap((name) => filesIn(join(agent.dataFolder, name))).sort();
    const file = files[Math.floor(pick[0] * files.length)];
    if (file !== undefined) {
      const original = world.federation.placeFor('whole-file');
      await copyFile(file, original);
      flip(file, pick[1], Math.floor(pick[1] * statSync(file).size * 8) % 8);
      const damaged = sha256Of(file);
      world.flips.push({ member, file: relative(agent.dataFolder, file), original, damaged });
      world.note(`${member}: one bit of ${relative(agent.dataFolder, file)}`);
    }
    await sleep(downMs);
    await agent.start();
  });
};

const sha256Of = (file: string) => sha256(readFileSync(file));

/** The blob that a flipped file was, by its name; null for any other file. */
export const blobOf = (file: string): string | null => /(?:^|\/)([0-9a-f]{64})$/.exec(file)?.[1] ?? null;

/**
 * Puts files back as they were. What a person does that Anneal asks to restore the files of the data folder from a backup.
 * @param wanted which of those that were damaged
 * @param alsoGone those too that Anneal has set aside or deleted
 * @returns how many were put back
 */
export async function putBack(
  world: World,
  wanted: (flip: FlipEntry) => boolean,
  alsoGone: boolean,
): Promise<number> {
  let count = 0;
  for (const flip of world.flips.filter(wanted)) {
    const file = join(world.federation.agentOf(flip.member).dataFolder, flip.file);
    const isThere = existsSync(file);
    if (isThere ? sha256Of(file) !== flip.damaged : !alsoGone) continue;
    await mkdir(dirname(file), { recursive: true });
    await copyFile(flip.original, file);
    count += 1;
  }
  return count;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).size > 0);
}
