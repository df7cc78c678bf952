/** A role that could not start because of something that passes starts as soon as that has passed, in the same process. */
import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { type Agent, createAgent } from '../../core/agent/agent.ts';
import { openSqlite } from '../../core/store/sqlite.ts';
import { freePort } from '../contract/test-brokers.ts';
import { temporaryFolder } from '../fixtures/store.ts';

let agent: Agent | null = null;
afterEach(async () => {
  await agent?.close();
  agent = null;
});

const start = async (dataFolder: string) => {
  agent = await createAgent({ dataFolder });
  return agent.context;
};

/** A coordinator that was set up, and is not running. */
async function setUp(dataFolder: string): Promise<number> {
  const port = await freePort();
  const context = await start(dataFolder);
  await context.becomeCoordinator({ federation: 'Test', hosts: ['127.0.0.1'], port }, 'anna');
  await agent!.close();
  agent = null;
  return port;
}

const isBack = (context: Agent['context']) =>
  vi.waitFor(() => expect(context.status()).toMatchObject({ broker: { state: 'online' }, problem: null }), {
    timeout: 30_000,
    interval: 100,
  });

test('a port that another program held for a while', async () => {
  using folder = temporaryFolder();
  const port = await setUp(folder.dir);
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(port, '127.0.0.1', resolve));

  const context = await start(folder.dir);
  const blocked = context.status();
  await new Promise((resolve) => blocker.close(resolve));

  expect(blocked).toMatchObject({ broker: { state: 'none' }, problem: { code: 'PORT_IN_USE' } });
  await isBack(context);
}, 60_000);

test('an agent that is closed while it waits ends, and starts nothing afterwards', async () => {
  using folder = temporaryFolder();
  const port = await setUp(folder.dir);
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(port, '127.0.0.1', resolve));
  const context = await start(folder.dir);

  await agent!.close();
  agent = null;
  await new Promise((resolve) => blocker.close(resolve));

  expect(context.coordinator).toBeNull();
  const db = openSqlite(path.join(folder.dir, 'anneal.db'), { readOnly: true });
  expect(db.pragma('quick_check')).toBe('ok');
  db.close();
}, 60_000);
