/** A child ends with its parent although its event loop stands still. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { startChild } from '../../core/process/child-process.ts';
import { isRunning } from '../fixtures/shell/processes.ts';

const blocked = fileURLToPath(new URL('../fixtures/blocked-child.ts', import.meta.url));
const startModule = pathToFileURL(
  fileURLToPath(new URL('../../core/process/child-process.ts', import.meta.url)),
).href;

/** Starts a child in a parent that can be killed without the test. */
async function childOf(lifeline: string) {
  const code = `
    const { startChild } = await import(${JSON.stringify(startModule)});
    startChild(process.execPath, [${JSON.stringify(blocked)}], {
      lifeline: ${JSON.stringify(lifeline)}, ownGroup: false, onLine: (line) => console.log(line),
    });
    setTimeout(() => {}, 60_000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(parent.stdout.setEncoding('utf8'), 'data')) as [string];
  return { parent, child: Number.parseInt(line, 10) };
}

// It would block for a minute: the test fails long before.
test.each(['ipc', 'stdin'])(
  'a blocked child with the lifeline %s ends when its parent is killed',
  async (lifeline) => {
    const { parent, child } = await childOf(lifeline);
    expect(isRunning(child)).toBe(true);

    parent.kill('SIGKILL');

    await expect.poll(() => isRunning(child), { timeout: 10_000, interval: 20 }).toBe(false);
  },
);

test('a child whose parent lives goes on, and one that no parent watches over, too', async () => {
  const line = Promise.withResolvers<string>();
  const watched = startChild(process.execPath, [blocked], { lifeline: 'ipc', onLine: line.resolve });
  await line.promise;
  const alone = spawn(process.execPath, [blocked], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(alone.stdout, 'data');
  // Longer than both take to notice.
  await new Promise((resolve) => setTimeout(resolve, 1_500));

  expect(watched.isRunning).toBe(true);
  expect(alone.exitCode).toBeNull();
  expect(alone.signalCode).toBeNull();

  alone.kill('SIGKILL');
  await watched.kill();
});
