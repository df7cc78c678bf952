/** Backups by commands, of a federation that trains: both sides are restored into new folders, and the run goes on and ends. */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type CommandLine, openCommandLine, writeImages } from '../fixtures/command-line.ts';

// Dozens of processes, each of which starts an agent.
const timeoutMs = 600_000;
const classes = ['circle', 'square'];
const words = 'lantern orchid gravel teapot';

function withPassphrase(cli: CommandLine, text = words, mode = 0o600): string {
  const file = join(cli.folder, `passphrase-${mode}`);
  writeFileSync(file, `${text}\n`);
  chmodSync(file, mode);
  return file;
}

const json = (text: string) => JSON.parse(text);

describe('one installation', () => {
  test(
    'made, counted, verified, restored; each refusal in one sentence, as JSON too',
    async () => {
      await using cli = openCommandLine();
      const secret = withPassphrase(cli);
      const backup = (...args: string[]) => cli.anneal('site', 'backup', ...args);

      const none = await backup();
      const made = await backup('first.anneal', '--passphrase-file', secret, '--json');
      const again = await backup('first.anneal', '--passphrase-file', secret, '--json');
      const easy = await backup(
        'easy.anneal',
        '--passphrase-file',
        withPassphrase(cli, 'password1234', 0o400),
      );
      const open = await backup('open.anneal', '--passphrase-file', withPassphrase(cli, words, 0o644));
      const known = await backup('--json');
      const verified = await cli.anneal(
        'elsewhere',
        'backup',
        'verify',
        'first.anneal',
        '--passphrase-file',
        secret,
        '--json',
      );
      const wrong = await cli.anneal(
        'elsewhere',
        'backup',
        'verify',
        'first.anneal',
        '--passphrase-file',
        join(cli.folder, 'passphrase-256'),
      );
      const restored = await cli.anneal('new', 'restore', 'first.anneal', '--passphrase-file', secret);
      const over = await cli.anneal('new', 'restore', 'first.anneal', '--passphrase-file', secret, '--json');
      const asRestored = await cli.anneal('new', 'backup');
      const status = await cli.anneal('new', 'site', 'status');

      expect(none.stdout).toContain('No backup was made yet');
      expect(made).toMatchObject({ code: 0, stderr: '' });
      expect(json(made.stdout)).toMatchObject({ missing: 0 });
      expect(json(again.stdout)).toMatchObject({ error: { code: 'FILE_EXISTS' } });
      expect(easy.stderr).toContain('The passphrase is easy to guess.');
      expect(open.stderr).toContain('Others can read or change the file with the passphrase.');
      expect(json(known.stdout)).toMatchObject({
        count: 1,
        beforeErasure: 0,
        underWay: null,
        restored: null,
      });
      expect(json(verified.stdout)).toMatchObject({ about: { id: json(made.stdout).id }, missing: 0 });
      expect(existsSync(join(cli.folder, 'elsewhere'))).toBe(false);
      expect(wrong).toMatchObject({ code: 1 });
      expect(wrong.stderr).toMatch(/^Error: This passphrase does not open the backup\.\n/);
      expect(restored).toMatchObject({ code: 0, stderr: '' });
      expect(restored.stdout).toContain('The old installation must never start again');
      expect(json(over.stdout)).toMatchObject({ error: { code: 'DATA_FOLDER_NOT_EMPTY' } });
      expect(asRestored.stdout).toContain('was restored on');
      expect(status.stdout).toContain('No backup was made yet');
      const left = readdirSync(cli.folder).filter((name) => /tmp|restoring|easy|open/.test(name));
      expect(left).toEqual([]);
    },
    timeoutMs,
  );

  test(
    'the passphrase comes from standard input, also behind the password of an account',
    async () => {
      await using cli = openCommandLine();
      const program = fileURLToPath(new URL('../../core/cli/anneal.ts', import.meta.url));
      const env = { ...process.env, ANNEAL_DATA: join(cli.folder, 'site'), NO_COLOR: '1' };
      const typed = async (input: string, args: string[]) => {
        const child = spawn(process.execPath, [program, ...args], { cwd: cli.folder, env });
        let output = '';
        child.stdout.on('data', (text) => (output += text));
        child.stderr.on('data', (text) => (output += text));
        child.stdin.end(input);
        const code = await new Promise((resolve) => child.on('close', resolve));
        return { code, output };
      };
      const added = json(
        (
          await cli.anneal(
            'site',
            'users',
            'add',
            'anna',
            '--person',
            'Anna',
            '--roles',
            'administrator',
            '--json',
          )
        ).stdout,
      );
      const password = 'walnut harbour candle forty';
      await typed(`${added.oneTimePassword}\n${password}\n${password}\n`, [
        '--as',
        'anna',
        'users',
        'password',
      ]);

      const plain = await typed(`${words}\n`, ['backup', 'plain.anneal', '--json']);
      const named = await typed(`${password}\n${words}\n`, [
        '--as',
        'anna',
        'backup',
        'named.anneal',
        '--json',
      ]);
      const nothing = await typed('', ['backup', 'nothing.anneal']);
      const known = json((await cli.anneal('site', 'backup', '--json')).stdout);

      expect(plain).toMatchObject({ code: 0 });
      expect(named).toMatchObject({ code: 0 });
      expect(nothing.output).toContain('was given');
      expect(known.made.map(({ madeBy }: { madeBy: string }) => madeBy)[0]).toBe('anna');
      expect(existsSync(join(cli.folder, 'nothing.anneal'))).toBe(false);
    },
    timeoutMs,
  );
});

test(
  'both sides while a round trains and while images are imported; restored, the run goes on and ends',
  async () => {
    await using cli = openCommandLine();
    const secret = withPassphrase(cli);
    const coordinator = await cli.start(
      'coordinator',
      ...['coordinator', 'start', '--federation', 'Test', '--port', '0', '--host', '127.0.0.1'],
    );
    await cli.anneal('coordinator', 'coordinator', 'invite', '--site', 'Klinik', '--out', 'invitation.txt');
    await cli.anneal('site', 'site', 'join', '--invitation', 'invitation.txt');
    const rules = ['minContributors=1', 'minSteps=1', 'minSubjects=1', 'minSubjectsPerClass=1'];
    await cli.anneal('site', 'site', 'policy', 'set', ...rules, '--weaken');
    await writeImages(cli.folder, { count: 24, labels: classes });
    const importing = [
      'site',
      'import',
      '--images',
      'images',
      '--labels',
      'labels.csv',
      '--already-cropped',
      '--json',
    ];
    await cli.anneal('site', ...importing);
    const site = await cli.start('site', 'site', 'start', '--approve', '--threads', '1');
    const started = await cli.anneal(
      'coordinator',
      ...['coordinator', 'run', '--classes', classes.join(), '--rounds', '4', '--initiating-rounds', '0'],
      ...['--r-max', '2', '--r-min', '1', '--quorum', '1', '--epochs', '8', '--no-watch', '--json'],
    );
    expect(started, started.stdout).toMatchObject({ code: 0 });
    const overview = async (data: string) =>
      json((await cli.anneal(data, 'coordinator', 'status', '--json')).stdout);
    const until = async (data: string, done: (current: { status: string; round: number }) => boolean) => {
      for (;;) {
        const { current } = await overview(data);
        if (current !== null && done(current)) return current;
        if (['failed', 'stopped'].includes(current?.status)) throw new Error(JSON.stringify(current));
      }
    };
    await until('coordinator', ({ round, status }) => status === 'running' && round >= 1);

    const [ofSite, ofCoordinator, imported] = await Promise.all([
      cli.anneal('site', 'backup', 'site.anneal', '--passphrase-file', secret, '--json'),
      cli.anneal('coordinator', 'backup', 'coordinator.anneal', '--passphrase-file', secret, '--json'),
      cli.anneal('site', ...importing),
    ]);
    await site.stop('SIGTERM');
    await coordinator.stop('SIGTERM');
    expect(imported, imported.stdout).toMatchObject({ code: 0 });
    for (const made of [ofSite, ofCoordinator]) {
      expect(made, made.stdout).toMatchObject({ code: 0 });
      expect(json(made.stdout)).toMatchObject({ missing: 0 });
    }
    for (const name of ['site', 'coordinator']) rmSync(join(cli.folder, name), { recursive: true });
    for (const name of ['site', 'coordinator']) {
      const restored = await cli.anneal(
        `${name}-2`,
        'restore',
        `${name}.anneal`,
        '--passphrase-file',
        secret,
        '--json',
      );
      expect(restored, restored.stdout).toMatchObject({ code: 0 });
    }
    const trail = await cli.anneal('site-2', 'audit', 'verify', '--json');
    // What was recorded after the backup is known to people only: until one of them has looked, the site takes part in nothing.
    const confirmed = await cli.anneal('site-2', 'site', 'confirm-restore', '--json');
    await cli.start('coordinator-2', 'coordinator', 'start');
    await cli.start('site-2', 'site', 'start', '--approve', '--threads', '1');
    const finished = await until('coordinator-2', ({ status }) => status === 'finished');

    expect(json(trail.stdout)).toMatchObject({ intact: true });
    expect(confirmed, confirmed.stdout).toMatchObject({ code: 0 });
    expect(finished).toMatchObject({ status: 'finished', rounds: 4 });
  },
  timeoutMs,
);
