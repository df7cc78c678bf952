/** `anneal users` and `--as` as real processes on one data folder: passwords come by standard input, never as arguments. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { HandedOut } from '../../core/api/contract.ts';
import { osUser } from '../../core/people/names.ts';
import { type CommandLine, type Outcome, openCommandLine } from '../fixtures/command-line.ts';
import { goodPassword as password } from '../fixtures/people.ts';

const program = fileURLToPath(new URL('../../core/cli/anneal.ts', import.meta.url));
let cli: CommandLine;

beforeAll(async () => {
  cli = openCommandLine();
  // One agent for all commands, as at a hospital; without it each would start its own.
  await cli.start('site', 'serve', '--port', '0');
}, 120_000);

afterAll(() => cli?.[Symbol.asyncDispose]());

const run = (...args: string[]) => cli.anneal('site', 'users', ...args);

/** The same with lines for standard input. */
function typed(lines: string[], ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...process.env, ANNEAL_DATA: join(cli.folder, 'site'), NO_COLOR: '1' };
    const child = execFile(process.execPath, [program, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
    child.stdin!.end(lines.map((line) => `${line}\n`).join(''));
  });
}

test('the owner of the machine adds users; they choose their passwords and act under their names', async () => {
  const refused = await run('add', 'anna', '--roles', 'viewer');
  const unknown = await run('add', 'anna', '--roles', 'king');
  const added = await run('add', 'anna', '--person', 'Anna Meier', '--roles', 'administrator', '--json');
  const { oneTimePassword } = JSON.parse(added.stdout) as HandedOut;
  const early = await typed([oneTimePassword], 'users', 'list', '--as', 'anna');
  const weak = await typed(
    [oneTimePassword, 'qwertyuiop12', 'qwertyuiop12'],
    ...['users', 'password', '--as', 'anna'],
  );
  const chosen = await typed([oneTimePassword, password, password], 'users', 'password', '--as', 'anna');
  const byAnna = await typed([password], 'users', 'add', 'berta', '--roles', 'viewer', '--as', 'anna');
  const wrong = await typed(['wrong'], 'users', 'list', '--as', 'anna');
  const list = await run('list', '--json');

  expect([refused.code, unknown.code, early.code, weak.code, wrong.code]).toEqual([1, 1, 1, 1, 1]);
  expect(refused.stderr).toContain('The first user must be an administrator.');
  expect(unknown.stderr).toContain('Roles are viewer, data-manager, approver, administrator.');
  expect(early.stderr).toContain('users password --as anna');
  expect(weak.stderr).toContain('easy to guess');
  expect(wrong.stderr).toContain('The name or the password is not right.');
  expect([added.code, chosen.code, byAnna.code]).toEqual([0, 0, 0]);
  const { users } = JSON.parse(list.stdout) as { users: { name: string; createdBy: string }[] };
  expect(users.map(({ name, createdBy }) => [name, createdBy])).toEqual([
    ['anna', `${osUser()} (this computer)`],
    ['berta', 'anna'],
  ]);
  expect([added.stderr, chosen.stdout, byAnna.stderr].join()).not.toContain(password);
}, 300_000);

test('a user acts within their roles, and the last administrator stays', async () => {
  const last = await run('deactivate', 'anna');
  const roles = await run('roles', 'berta', 'viewer,approver');
  const settings = await run('settings', '--lock-after', '5', '--json');
  const reset = await run('reset', 'anna', '--json');
  const { oneTimePassword } = JSON.parse(reset.stdout) as HandedOut;
  const old = await typed([password], 'users', 'list', '--as', 'anna');

  expect(last.stderr).toContain('"anna" is the last administrator.');
  expect(roles.stdout).toContain('viewer, approver');
  expect(JSON.parse(settings.stdout)).toEqual({ everybodySignsIn: false, lockAfterMinutes: 5 });
  expect(oneTimePassword).toMatch(/^[a-z2-9]{5}(-[a-z2-9]{5}){3}$/);
  expect(old.code).toBe(1);
}, 300_000);
