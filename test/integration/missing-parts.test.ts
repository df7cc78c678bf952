/** A data folder in which a part is missing: nothing new takes its place without a word. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { type Agent, createAgent } from '../../core/agent/agent.ts';
import { writeIdentity } from '../../core/agent/identity.ts';
import { setInstallationAside } from '../../core/agent/installation.ts';
import { loadCredentials } from '../../core/enrolment/credentials.ts';
import { anchorName } from '../../core/store/anchor.ts';
import { createBlobStore } from '../../core/store/blobs.ts';
import { openStore } from '../../core/store/store.ts';
import { hasSmallDisks } from '../fixtures/small-disk.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const agents: Agent[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.close();
});

async function start(dataFolder: string): Promise<Agent> {
  const agent = await createAgent({ dataFolder });
  agents.push(agent);
  return agent;
}

async function stop(agent: Agent): Promise<void> {
  agents.splice(agents.indexOf(agent), 1);
  await agent.close();
}

/** A coordinator that has run once. */
async function installed() {
  const folder = temporaryFolder();
  const agent = await start(folder.dir);
  await agent.context.becomeCoordinator({ federation: 'Test', port: 0, hosts: ['127.0.0.1'] }, 'test');
  await stop(agent);
  return { ...folder, file: (name: string) => path.join(folder.dir, name) };
}

const databaseFiles = ['anneal.db', 'anneal.db-wal', 'anneal.db-shm'];
const removeDatabase = (dir: string) => {
  for (const name of databaseFiles) rmSync(path.join(dir, name), { force: true });
};

describe('a database that is', () => {
  test.each<[string, (dir: string) => void, string]>([
    ['missing', removeDatabase, 'DATABASE_MISSING'],
    [
      'an empty file',
      (dir) => {
        removeDatabase(dir);
        writeFileSync(path.join(dir, 'anneal.db'), '');
      },
      'DATABASE_MISSING',
    ],
    [
      'a new one',
      (dir) => {
        removeDatabase(dir);
        openStore(path.join(dir, 'anneal.db')).close();
      },
      'DATABASE_BEHIND',
    ],
    [
      'missing together with the anchor',
      (dir) => {
        removeDatabase(dir);
        rmSync(path.join(dir, anchorName));
      },
      'DATABASE_MISSING',
    ],
  ])('%s stops the start, and the folder stays as it is', async (_what, damage, code) => {
    using folder = await installed();
    damage(folder.dir);
    const before = readdirSync(folder.dir).filter((name) => !name.startsWith('anneal.lock'));
    const keys = readFileSync(folder.file('keys/signing-key.pem'), 'utf8');

    await expect(createAgent({ dataFolder: folder.dir })).rejects.toMatchObject({ code });

    expect(readFileSync(folder.file('keys/signing-key.pem'), 'utf8')).toBe(keys);
    if (code === 'DATABASE_MISSING')
      expect(readdirSync(folder.dir).filter((name) => !name.startsWith('anneal.lock'))).toEqual(before);
    // And once more: the first start has not repaired it.
    await expect(createAgent({ dataFolder: folder.dir })).rejects.toMatchObject({ code });
  });
});

test('a folder without anything is a new installation', async () => {
  using folder = temporaryFolder();

  const agent = await start(folder.dir);

  expect(agent.context.status()).toMatchObject({ mode: 'unset', problem: null });
});

describe('a key that is missing', () => {
  test.each(['signing-key.pem', 'authority-key.pem', 'authority.pem'])(
    '(%s) keeps the coordinator from starting, and none is made',
    async (name) => {
      using folder = await installed();
      rmSync(folder.file(`keys/${name}`));

      const agent = await start(folder.dir);

      expect(agent.context.coordinator).toBeNull();
      expect(agent.context.status().problem).toMatchObject({
        code: 'KEYS_MISSING',
        message: expect.stringContaining(name),
      });
      expect(existsSync(folder.file(`keys/${name}`))).toBe(false);
    },
  );

  test.each(['signing-key.pem', 'tls-key.pem'])('(%s) of a site is not made anew', async (name) => {
    using folder = temporaryFolder();
    const membership = {
      ...{ v: 1, siteId: 'site-a', siteName: 'A', federation: 'test', coordinatorName: 'Test' },
      ...{ coordinatorPublicKey: 'AAAA', brokerUrl: 'mqtts://127.0.0.1:1', certificate: '', authority: '' },
      joinedAt: '2026-11-22T12:00:00.000Z',
    };
    using other = await installed();
    for (const key of ['signing-key.pem', 'tls-key.pem'])
      if (key !== name)
        writeFileSync(path.join(folder.dir, key), readFileSync(other.file('keys/authority-key.pem')));
    writeFileSync(path.join(folder.dir, 'membership.json'), JSON.stringify(membership));

    await expect(loadCredentials(folder.dir)).rejects.toMatchObject({ code: 'KEYS_MISSING' });

    expect(existsSync(path.join(folder.dir, name))).toBe(false);
  });
});

describe('keys and a database of two installations', () => {
  const copy = (from: string, to: string, names: readonly string[]) => {
    for (const name of names) cpSync(path.join(from, name), path.join(to, name), { recursive: true });
  };

  test.each<[string, (own: string, other: string) => void, string]>([
    [
      'the signing key of another one',
      (own, other) => copy(other, own, ['keys/signing-key.pem']),
      'signing-key.pem',
    ],
    [
      'the authority of another one',
      (own, other) => copy(other, own, ['keys/authority-key.pem', 'keys/authority.pem']),
      'authority-key.pem',
    ],
    ['all keys of another one', (own, other) => copy(other, own, ['keys']), 'signing-key.pem'],
    [
      'the database of another one',
      (own, other) => {
        for (const name of [...databaseFiles, anchorName]) rmSync(path.join(own, name), { force: true });
        copy(other, own, ['anneal.db', anchorName]);
      },
      'signing-key.pem',
    ],
    [
      'the database of another one that had not bound its keys',
      (own, other) => {
        for (const name of [...databaseFiles, anchorName]) rmSync(path.join(own, name), { force: true });
        copy(other, own, ['anneal.db']);
        const store = openStore(path.join(own, 'anneal.db'));
        store.settings.remove('agent.keys');
        store.close();
      },
      'authority.pem',
    ],
  ])('%s: the start is stopped, and no file goes', async (_what, mix, file) => {
    using own = await installed();
    using other = await installed();
    const blob = await createBlobStore(own.file('blobs')).put(Buffer.from('a crop'));
    mix(own.dir, other.dir);
    const keys = readFileSync(own.file('keys/signing-key.pem'), 'utf8');

    for (const _time of [1, 2])
      await expect(createAgent({ dataFolder: own.dir })).rejects.toMatchObject({
        code: 'KEYS_DIFFER',
        message: expect.stringContaining(file),
      });

    expect(createBlobStore(own.file('blobs')).has(blob)).toBe(true);
    expect(readFileSync(own.file('keys/signing-key.pem'), 'utf8')).toBe(keys);
  });

  test('those of a site: its membership says whose it is', async () => {
    using own = await installed();
    const store = openStore(own.file('anneal.db'));
    const identity = { mode: 'site', federation: 'test', federationName: 'Test', siteId: 'site-a' } as const;
    const joined = { siteName: 'A', brokerUrl: 'mqtts://127.0.0.1:1', joinedAt: '2026-11-22T12:00:00.000Z' };
    writeIdentity(store, { ...identity, ...joined });
    store.settings.remove('agent.keys');
    store.close();
    const member = (siteId: string) =>
      writeFileSync(own.file('keys/membership.json'), JSON.stringify({ siteId, federation: 'test' }));
    member('site-b');

    await expect(createAgent({ dataFolder: own.dir })).rejects.toMatchObject({ code: 'KEYS_DIFFER' });

    member('site-a');
    const agent = await start(own.dir);
    // The rest of what is wrong with it is said as before.
    expect(agent.context.status().problem?.code).toBe('KEYS_MISSING');
  });

  test('an empty key file is named, and no other key is made', async () => {
    using own = await installed();
    writeFileSync(own.file('keys/signing-key.pem'), '');

    const agent = await start(own.dir);

    expect(agent.context.coordinator).toBeNull();
    expect(agent.context.status().problem?.message).toContain('signing-key.pem');
    expect(readFileSync(own.file('keys/signing-key.pem'), 'utf8')).toBe('');
  });
});

test('start-fresh keeps every old file, and the folder is a new installation then', async () => {
  using folder = await installed();
  const key = readFileSync(folder.file('keys/signing-key.pem'), 'utf8');
  rmSync(folder.file('anneal.db'));

  const aside = setInstallationAside(folder.dir)!;
  const agent = await start(folder.dir);

  expect(agent.context.status().mode).toBe('unset');
  expect(readFileSync(path.join(aside, 'keys', 'signing-key.pem'), 'utf8')).toBe(key);
  expect(existsSync(path.join(aside, anchorName))).toBe(true);
});

test('start-fresh leaves an installation alone that is running', async () => {
  using folder = await installed();
  await start(folder.dir);

  expect(() => setInstallationAside(folder.dir)).toThrow(
    expect.objectContaining({ code: 'DATA_FOLDER_IN_USE' }),
  );

  expect(existsSync(folder.file('anneal.db'))).toBe(true);
});

test('start-fresh takes nothing from a folder that is not a data folder of Anneal, and makes none', () => {
  using folder = temporaryFolder();
  for (const name of ['keys', 'training', 'blobs']) mkdirSync(path.join(folder.dir, name));
  writeFileSync(path.join(folder.dir, 'training', 'plan.txt'), 'Monday: run');

  expect(setInstallationAside(folder.dir)).toBeNull();
  expect(setInstallationAside(path.join(folder.dir, 'mistyped'))).toBeNull();

  expect(readdirSync(folder.dir).sort()).toEqual(['blobs', 'keys', 'training']);
  expect(existsSync(path.join(folder.dir, 'training', 'plan.txt'))).toBe(true);
});

test.skipIf(!hasSmallDisks)(
  'start-fresh moves all or nothing, also where a folder is a disk of its own',
  async () => {
    using folder = await installed();
    const before = readdirSync(folder.dir).sort();
    const script = 'mount -t tmpfs none "$1/blobs" && exec "$2" "$3" start-fresh --yes --json --data "$1"';
    const program = fileURLToPath(new URL('../../core/cli/anneal.ts', import.meta.url));

    const said = spawnSync(
      'unshare',
      ['-rm', 'sh', '-c', script, 'sh', folder.dir, process.execPath, program],
      {
        encoding: 'utf8',
        timeout: 30_000,
      },
    );

    expect(said.status).not.toBe(0);
    expect(said.stderr + said.stdout).toContain('DATA_FOLDER_UNUSABLE');
    expect(readdirSync(folder.dir).sort()).toEqual(before);
    const agent = await start(folder.dir);
    expect(agent.context.status()).toMatchObject({ mode: 'coordinator', problem: null });
  },
);
