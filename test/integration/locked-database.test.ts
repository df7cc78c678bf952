/** Another program holds the database of a running agent: it answers at once, lives, and goes on. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startAgentProcess } from '../../core/agent/agent-process.ts';
import { type AgentClient, createAgentClient } from '../../core/api/client.ts';
import { recordConsent } from '../../core/consent/consent.ts';
import { openDataFolder } from '../../core/store/data-folder.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { openStore } from '../../core/store/store.ts';
import { temporaryFolder } from '../fixtures/store.ts';

const program = fileURLToPath(new URL('../../core/agent/main.ts', import.meta.url));
const folder = temporaryFolder();
const dataFolder = path.join(folder.dir, 'data');
let agent: ReturnType<typeof startAgentProcess>;
let client: AgentClient;
let hasEnded = false;

beforeAll(async () => {
  const { dbFile } = openDataFolder(dataFolder);
  const store = openStore(dbFile);
  for (const pseudonym of ['P1', 'P2'])
    recordConsent(store, {
      ...{ pseudonym, purpose: 'federated-training', documentVersion: '1', validFrom: '2026-01-01' },
      recordedBy: 'test',
    });
  store.close();
  const ready = Promise.withResolvers<string>();
  agent = startAgentProcess({
    nodePath: process.execPath,
    args: [program, '--data', dataFolder],
    onReady: ({ socket }) => ready.resolve(socket),
    log: () => {},
  });
  void agent.exited.then(() => {
    hasEnded = true;
    ready.reject(new Error('the agent ended'));
  });
  client = createAgentClient(await ready.promise);
}, 120_000);
afterAll(async () => {
  await agent?.kill();
  folder[Symbol.dispose]();
});

/** As a database viewer, or a backup program that takes no chances. */
function lock() {
  const db = openSqlite(path.join(dataFolder, 'anneal.db'));
  db.exec('BEGIN EXCLUSIVE');
  return {
    [Symbol.dispose]() {
      db.exec('ROLLBACK');
      db.close();
    },
  };
}

const withdraw = (pseudonym: string) => client.consent.withdraw.mutate({ pseudonym });
const statusOf = async (pseudonym: string) =>
  (await client.consent.list.query({ search: pseudonym }))[0]?.consents[0]?.status;

test('a change is refused with one sentence, and nothing of it is kept; questions are answered', async () => {
  {
    using _lock = lock();
    await expect(withdraw('P1')).rejects.toMatchObject({
      message: 'Another program holds the database of this data folder.',
      data: { report: { code: 'DATABASE_BUSY' } },
    });
    expect(await statusOf('P1')).toBe('active');
  }

  await withdraw('P1');

  expect(await statusOf('P1')).toBe('withdrawn');
  expect(hasEnded).toBe(false);
});

test('several at once are each answered: none waits for all the others', async () => {
  using _lock = lock();

  const answers = await Promise.allSettled(Array.from({ length: 5 }, () => withdraw('P2')));

  expect(answers.map(({ status }) => status)).toEqual(Array(5).fill('rejected'));
  expect(await client.status.query()).toMatchObject({ mode: 'unset' });
  expect(hasEnded).toBe(false);
});

test('what the agent does by itself meanwhile ends nothing, and is done when the lock is gone', async () => {
  {
    using _lock = lock();
    // The look at crops that are due, and whatever else writes.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(hasEnded).toBe(false);
  }

  await withdraw('P2');

  expect(await statusOf('P2')).toBe('withdrawn');
  expect((await client.audit.query()).intact).toBe(true);
});
