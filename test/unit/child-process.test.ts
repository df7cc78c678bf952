/** Child processes as the product starts and ends them, with real ones. */
import { once } from 'node:events';
import { expect, it, onTestFinished, vi } from 'vitest';
import { type Child, type ChildOptions, runProgram, startChild } from '../../core/process/child-process.ts';
import { isRunning } from '../fixtures/shell/processes.ts';

/** Well below the half minute after which the processes of a failed test end by themselves. */
vi.setConfig({ testTimeout: 15_000 });

/** Ignores SIGTERM. */
const deaf = `process.on('SIGTERM', () => {}); setTimeout(() => {}, 30_000); console.log(process.pid);`;
/** Starts a deaf process and says its id; ends on SIGTERM itself. */
const parentOfDeaf = `
  require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(deaf)}], {
    stdio: ['ignore', 'inherit', 'ignore'],
  });
  setTimeout(() => {}, 30_000);`;

async function start(code: string, options: ChildOptions = {}): Promise<{ child: Child; said: number }> {
  const line = Promise.withResolvers<string>();
  const child = startChild(process.execPath, ['-e', code], { onLine: line.resolve, ...options });
  onTestFinished(() => child.kill());
  return { child, said: Number(await line.promise) };
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { timeout: 10_000, interval: 20 }).toBe(true);
}

const onPosix = it.skipIf(process.platform === 'win32');

it('stop ends what the child started too, even where that ignores SIGTERM', async () => {
  const { child, said: grandchild } = await start(parentOfDeaf);
  expect(isRunning(grandchild)).toBe(true);

  await child.stop(300);

  expect(child.isRunning).toBe(false);
  await until(() => !isRunning(grandchild));
});

onPosix('stop kills a child that ignores SIGTERM once the grace period is over, and not before', async () => {
  const { child } = await start(deaf);
  const begun = performance.now();

  await child.stop(400);

  expect(performance.now() - begun).toBeGreaterThanOrEqual(390);
  expect(await child.ended).toMatchObject({ code: null, signal: 'SIGKILL' });
});

it('stop closes the lifeline, by which a child can end in order', async () => {
  const code = `process.stdin.on('end', () => process.exit(7)).resume(); process.on('SIGTERM', () => {}); console.log(1);`;
  const { child } = await start(code, { lifeline: 'stdin' });

  await child.stop(10_000);

  expect(await child.ended).toEqual({ code: 7, signal: null });
});

it('a child with an IPC channel is told by that alone', async () => {
  const code = `process.on('disconnect', () => process.exit(6)); process.on('message', (said) => process.send(said + 1));`;
  const child = startChild(process.execPath, ['-e', code], { lifeline: 'ipc', ownGroup: false });
  onTestFinished(() => child.kill());
  child.node.send(41);
  expect((await once(child.node, 'message'))[0]).toBe(42);

  await child.stop(10_000);

  expect(await child.ended).toEqual({ code: 6, signal: null });
});

it('a program that is not there gives a reason', async () => {
  const child = startChild('/no/such/program', []);

  expect(child.pid).toBeUndefined();
  expect(await child.ended).toMatchObject({ code: null, startError: { code: 'ENOENT' } });
  await child.stop(10_000);
});

it('what a child without a lifeline runs ends when its parent exits', async () => {
  const helper = JSON.stringify(new URL('../../core/process/child-process.ts', import.meta.url).href);
  const code = `
    import(${helper}).then(({ startChild }) => {
      const child = startChild(process.execPath, ['-e', 'setTimeout(() => {}, 30000); console.log(process.pid)'], {
        onLine: (line) => { console.log(line); setTimeout(() => process.exit(0), 50); },
      });
    });`;
  const { child, said: grandchild } = await start(code);

  await child.ended;

  await until(() => !isRunning(grandchild));
});

it('a program gives its exit code and what it printed', async () => {
  const code = `console.log('out'); console.error('err'); process.exitCode = 3;`;

  const result = await runProgram(process.execPath, ['-e', code]);

  expect(result).toMatchObject({ exitCode: 3, failed: true, stdout: 'out\n', stderr: 'err\n' });
});

onPosix('a program that takes too long is killed with what it started', async () => {
  const result = await runProgram(process.execPath, ['-e', parentOfDeaf], { timeout: 1_500 });

  expect(result).toMatchObject({ failed: true, timedOut: true, signal: 'SIGKILL' });
  await until(() => !isRunning(Number(result.stdout)));
});

it('a program that prints without end is ended', async () => {
  const code = `setInterval(() => process.stdout.write('x'.repeat(100_000)), 1);`;

  const result = await runProgram(process.execPath, ['-e', code], { maxBuffer: 1_000_000 });

  expect(result).toMatchObject({ failed: true, isMaxBuffer: true });
  expect(result.stdout).toHaveLength(1_000_000);
});
