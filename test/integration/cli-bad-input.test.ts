/** Bad input on the command line: one sentence, what to do, exit code 1, and nothing half-done. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openStore } from '../../core/store/store.ts';
import {
  type CommandLine,
  type Outcome,
  openCommandLine,
  writeImages,
  writeLabels,
} from '../fixtures/command-line.ts';

const testTimeoutMs = 120_000;
const importArguments = [
  ...['site', 'import', '--images', 'images', '--labels', 'labels.csv', '--already-cropped'],
];
const startArguments = ['coordinator', 'start', '--federation', 'Test', '--host', '127.0.0.1'];

/** Two lines on standard error: the sentence and the advice, without a stack or a place on this machine. */
function expectRefusal(outcome: Outcome, sentence: RegExp): void {
  expect(outcome).toMatchObject({ code: 1, stdout: '' });
  const [first, advice, ...rest] = outcome.stderr.split('\n');
  expect(first).toMatch(/^Error: \S.*[.?!]$/);
  expect(first).toMatch(sentence);
  expect(advice).toMatch(/^[A-Z].*[.!]$/);
  expect(rest).toEqual(['']);
  expect(outcome.stderr).not.toMatch(/\/tmp\/|\/work\/|\/home\/|node_modules|\n\s+at /);
}

function expectJsonRefusal(outcome: Outcome, code: string): void {
  expect(outcome).toMatchObject({ code: 1, stderr: '' });
  const parsed = JSON.parse(outcome.stdout);
  expect(parsed).toMatchObject({ type: 'error', error: { code } });
  expect(Object.keys(parsed.error).sort()).toEqual(['action', 'code', 'message']);
}

/**
 * Nothing of a failed import is in the store or among the blobs.
 * @param options `consentsStay`: they are recorded before any image is opened, so that none waits for a photograph
 */
function expectNothingImported(dataFolder: string, { consentsStay = false } = {}): void {
  const store = openStore(join(dataFolder, 'anneal.db'));
  try {
    expect(store.images.list()).toEqual([]);
    if (!consentsStay) {
      expect(store.subjects.list({ search: '' })).toEqual([]);
      expect(store.consentEvents.all()).toEqual([]);
    }
  } finally {
    store.close();
  }
  const blobs = readdirSync(join(dataFolder, 'blobs'), { recursive: true, withFileTypes: true });
  expect(blobs.filter((entry) => entry.isFile()).map((entry) => entry.name)).toEqual([]);
}

/** Another program on a port of loopback. */
async function takePort(): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    async [Symbol.asyncDispose]() {
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe('an import', () => {
  const cases: [string, string, RegExp, (cli: CommandLine, rows: string[]) => void][] = [
    [
      'without its CSV',
      'CSV_MISSING',
      /"labels\.csv"/,
      (cli) => spawnSync('rm', [join(cli.folder, 'labels.csv')]),
    ],
    [
      'of a malformed CSV',
      'CSV_MALFORMED',
      /labels\.csv, line 4, /,
      (cli, rows) => writeLabels(join(cli.folder, 'labels.csv'), [...rows.slice(0, 2), 'p2.png,s1']),
    ],
  ];
  test.each(cases)('%s is refused and leaves nothing behind', async (_name, code, sentence, spoil) => {
    await using cli = openCommandLine();
    const { rows } = await writeImages(cli.folder, { count: 4, labels: ['a', 'b'], side: 32 });
    spoil(cli, rows);

    const plain = await cli.anneal('site', ...importArguments);
    const json = await cli.anneal('site', ...importArguments, '--json');

    expectRefusal(plain, sentence);
    expectJsonRefusal(json, code);
    expectNothingImported(join(cli.folder, 'site'));
  });

  test('of a damaged and a missing image sets them aside, says why, and takes the rest', async () => {
    await using cli = openCommandLine();
    await writeImages(cli.folder, { count: 4, labels: ['a', 'b'] });
    writeFileSync(join(cli.folder, 'images', 'p3.png'), 'no image');
    rmSync(join(cli.folder, 'images', 'p2.png'));

    const outcome = await cli.anneal('site', ...importArguments, '--json');

    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    const report = JSON.parse(outcome.stdout);
    expect(report.imported).toBe(2);
    const setAside = report.setAside.map(({ sourceName }: { sourceName: string }) => sourceName);
    expect(setAside.sort()).toEqual(['p2.png', 'p3.png']);
  });

  test('with a label outside the classes of the run in progress is refused', async () => {
    await using cli = openCommandLine();
    const { rows } = await writeImages(cli.folder, { count: 4, labels: ['a', 'b'], side: 32 });
    const before = await cli.anneal('site', ...importArguments, '--json');
    const store = openStore(join(cli.folder, 'site', 'anneal.db'));
    const { defaultRunConfig } = await import('../../core/config/run-config.ts');
    const base = { baseId: 'face-resnet-128', baseSha256: '0'.repeat(64) };
    store.runs.insert({ id: 'run', config: defaultRunConfig({ ...base, classes: ['a', 'b'] }) });
    store.close();
    writeLabels(join(cli.folder, 'labels.csv'), [...rows.slice(0, 3), 'p3.png,s1,c,train,granted']);

    const refused = await cli.anneal('site', ...importArguments);

    expect(before.code).toBe(0);
    expectRefusal(refused, /labels\.csv, line 5: the label "c" is not one of a, b/);
  });

  test('onto a full disk is refused and leaves nothing behind', async (context) => {
    await using cli = openCommandLine();
    const disk = join(cli.folder, 'disk');
    mkdirSync(disk);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]).status === 0;
    context.skip(!mounted, 'a small file system can only be mounted by root');
    try {
      await writeImages(cli.folder, { count: 60, labels: ['a', 'b'] });

      const plain = await cli.anneal('disk/site', ...importArguments);
      const json = await cli.anneal('disk/site', ...importArguments, '--json');

      expectRefusal(plain, /The disk that holds the data folder is full\./);
      expectJsonRefusal(json, 'DISK_FULL');
      expectNothingImported(join(disk, 'site'), { consentsStay: true });
    } finally {
      spawnSync('umount', [disk]);
    }
  });
});

describe('an invitation', () => {
  test.each([
    ['that is something else', 'Dear colleague, welcome.'],
    ['that lost its end', 'anneal-invite:1:eyJmZWRlcmF0aW9uIjoi'],
  ])('%s is refused and the site stays unjoined', async (_name, text) => {
    await using cli = openCommandLine();
    writeFileSync(join(cli.folder, 'invitation.txt'), text);

    const plain = await cli.anneal('site', 'site', 'join', '--invitation', 'invitation.txt');
    const json = await cli.anneal('site', 'site', 'join', '--invitation', 'invitation.txt', '--json');
    const start = await cli.anneal('site', 'site', 'start', '--json');

    expectRefusal(plain, /invitation/i);
    expectJsonRefusal(json, 'INVITATION_INVALID');
    expectJsonRefusal(start, 'NOT_JOINED');
  });

  test('is not written over a file, and none is made then', async () => {
    await using cli = openCommandLine();
    await cli.start('coordinator', ...startArguments, '--port', '0');
    writeFileSync(join(cli.folder, 'there.txt'), 'mine');

    const refused = await cli.anneal(
      'coordinator',
      ...['coordinator', 'invite', '--site', 'a', '--out', 'there.txt'],
    );

    expectRefusal(refused, /already exists/);
    expect(readFileSync(join(cli.folder, 'there.txt'), 'utf8')).toBe('mine');
    const overview = await cli.anneal('coordinator', 'coordinator', 'status', '--json');
    expect(JSON.parse(overview.stdout).invitations).toEqual([]);
  });
});

test(
  'a broker that is away: joining gives up in time, a site that has joined keeps trying and says so',
  async () => {
    await using cli = openCommandLine();
    const coordinator = await cli.start('coordinator', ...startArguments, '--port', '0');
    for (const name of ['one', 'two'])
      await cli.anneal(
        'coordinator',
        ...['coordinator', 'invite', '--site', name, '--out', `${name}.txt`, '--json'],
      );
    await cli.anneal('one', 'site', 'join', '--invitation', 'one.txt');
    await coordinator.stop();

    const begun = performance.now();
    const joining = await cli.anneal('two', 'site', 'join', '--invitation', 'two.txt');
    const joinMs = performance.now() - begun;
    const site = await cli.start('one', 'site', 'start');
    const status = await cli.anneal('one', 'site', 'status', '--json');
    const words = await cli.anneal('one', 'site', 'status');
    const end = await site.stop();

    expectRefusal(joining, /broker .* does not answer/i);
    expect(joining.stderr).toContain('join again with the same invitation');
    expect(joinMs).toBeLessThan(30_000);
    expect(JSON.parse(status.stdout)).toMatchObject({
      broker: { state: 'offline' },
      problem: { code: 'BROKER_UNREACHABLE' },
    });
    expect(words.stdout).toMatch(/offline[\s\S]*does not answer/);
    expect(end.code).toBe(0);
    expect(end.wallMs).toBeLessThan(5_000);
  },
  testTimeoutMs,
);

describe('what is taken already', () => {
  test('the port of the broker: at the first start nothing is made, later it is said, too', async () => {
    await using cli = openCommandLine();
    await using other = await takePort();
    const port = String(other.port);

    const first = await cli.anneal('coordinator', ...startArguments, '--port', port);
    const status = await cli.anneal('coordinator', 'coordinator', 'status', '--json');
    await other[Symbol.asyncDispose]();
    const running = await cli.start('coordinator', ...startArguments, '--port', port);
    await running.stop();
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(other.port, '127.0.0.1', resolve));
    const later = await cli.anneal('coordinator', 'coordinator', 'start', '--json');
    const looked = await cli.anneal('coordinator', 'coordinator', 'status', '--json');
    await new Promise((resolve) => blocker.close(resolve));

    expectRefusal(first, new RegExp(`port ${port}\\.`));
    expectJsonRefusal(status, 'NOT_FOUND');
    expectJsonRefusal(later, 'PORT_IN_USE');
    expectJsonRefusal(looked, 'PORT_IN_USE');
  });

  test('the port of the screens', async () => {
    await using cli = openCommandLine();
    await using other = await takePort();

    const plain = await cli.anneal('data', 'serve', '--port', String(other.port));
    const json = await cli.anneal('data', 'serve', '--port', String(other.port), '--json');

    expectRefusal(plain, new RegExp(`port ${other.port}\\.`));
    expectJsonRefusal(json, 'PORT_IN_USE');
    expect(existsSync(join(cli.folder, 'data', 'agent.sock'))).toBe(false);
  });

  test('the data folder', async () => {
    await using cli = openCommandLine();
    await cli.start('data', 'serve', '--port', '0');

    const plain = await cli.anneal('data', 'serve', '--port', '0');
    const json = await cli.anneal('data', 'site', 'start', '--json');

    expectRefusal(plain, /data folder is in use/);
    expectJsonRefusal(json, 'DATA_FOLDER_IN_USE');
  });
});
