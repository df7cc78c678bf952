/** A data folder goes back in time: an older copy of it takes its place, or a backup that Anneal made is restored. */
import { randomUUID } from 'node:crypto';
import { cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { restoreBackup } from '../../../core/backup/restore-backup.ts';
import { silentLogger } from '../../../core/shared/logger.ts';
import { openSqlite } from '../../../core/store/sqlite.ts';
import type { ChaosAgent } from '../agent.ts';
import { freeDisk } from '../disk.ts';
import type { Inflict, World } from './index.ts';

const passphrase = randomUUID();
const mostTries = 4;

export const restoreFolder: Inflict<'restore'> = async (world, { member, from, ageMs, downMs }) => {
  const agent = world.federation.agentOf(member);
  const copiedAt = Date.now();
  const copy = from === 'backup' ? await makeBackup(world, agent) : await copyFolder(world, agent);
  if (copy === null) return;
  await sleep(ageMs);
  await agent.alone(async () => {
    await agent.kill();
    const hadSaid = from === 'backup' || heardSince(world, agent, copy);
    // Whoever puts a folder back makes room for it first.
    freeDisk(agent.folder);
    await empty(agent.dataFolder);
    if (from === 'backup')
      await restoreBackup({
        ...{ file: copy, passphrase, dataFolder: agent.dataFolder },
        ...{ erasures: [], actor: 'chaos', logger: silentLogger },
      });
    else await cp(copy, agent.dataFolder, { recursive: true });
    const entry = { member, copiedAt, restoredAt: Date.now(), hadSaid, lastRow: lastRowOf(agent.dataFolder) };
    world.restores.push({ ...entry, confirmedAt: null });
    world.note(`${member}: restored from a ${from}`);
    await sleep(downMs);
    await agent.start();
  });
};

/** As of a disk's snapshot: nobody runs on it meanwhile. */
async function copyFolder({ federation }: World, agent: ChaosAgent): Promise<string> {
  const copy = federation.placeFor('copy');
  await agent.alone(async () => {
    await agent.kill();
    await cp(agent.dataFolder, copy, { recursive: true, filter: (file) => !file.endsWith('.sock') });
    await agent.start();
  });
  return copy;
}

/** While the process runs; a full disk may end it all the same. @returns null when it cannot be made however often one tries */
async function makeBackup({ federation, note }: World, agent: ChaosAgent): Promise<string | null> {
  for (let left = mostTries; left > 0; left--) {
    const file = `${federation.placeFor('backup')}.anneal`;
    try {
      const request = { file, passphrase, withModels: true };
      await agent.alone(() => agent.client().backups.make.mutate(request));
      return file;
    } catch (error) {
      note(`${agent.member}: a backup was not made: ${error}`);
      await sleep(1_000);
    }
  }
  return null;
}

/** The folder itself is a place where something may be mounted. */
async function empty(folder: string): Promise<void> {
  for (const entry of await readdir(folder)) await rm(join(folder, entry), { recursive: true, force: true });
}

const counterRow = z.object({ epoch: z.string(), counter: z.int() });
const ownEpoch = 'SELECT epoch, counter FROM own_epochs WHERE ended_at IS NULL';
const heardEpoch = 'SELECT epoch, counter FROM peer_epochs WHERE peer = @peer AND epoch = @epoch';
const seqRow = z.object({ seq: z.int().nullable() });

function readFrom<T>(dataFolder: string, read: (db: ReturnType<typeof openSqlite>) => T): T {
  const db = openSqlite(join(dataFolder, 'anneal.db'), { readOnly: true });
  try {
    return read(db);
  } finally {
    db.close();
  }
}

/**
 * Whether somebody else heard of this store since the copy was made: only then anybody can notice by themselves that it went
 * back. Of a coordinator: whether any site did.
 */
function heardSince({ federation }: World, agent: ChaosAgent, copy: string): boolean {
  const own = readFrom(copy, (db) => db.get(counterRow, ownEpoch, {}))!;
  const heardBy = ({ dataFolder }: ChaosAgent, peer: string) => {
    try {
      const known = readFrom(dataFolder, (db) => db.get(counterRow, heardEpoch, { peer, epoch: own.epoch }));
      return known?.counter ?? 0;
    } catch {
      return 0; // Its disk is full, and nobody runs on it: then it cannot be read from outside.
    }
  };
  const { coordinator, sites } = federation;
  const heard =
    agent === coordinator
      ? sites.map((site) => heardBy(site.agent, 'coordinator'))
      : [heardBy(coordinator, federation.siteOf(agent.member).siteId)];
  return heard.some((counter) => counter > own.counter);
}

const lastRowOf = (dataFolder: string): number =>
  readFrom(dataFolder, (db) => db.get(seqRow, 'SELECT max(seq) AS seq FROM audit', {}))?.seq ?? 0;
