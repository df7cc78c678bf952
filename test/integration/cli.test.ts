/** The command line as a person or a script uses it: real processes, from help to a run over MQTT. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type CommandLine, openCommandLine, writeImages } from '../fixtures/command-line.ts';

const testTimeoutMs = 180_000;
const classes = ['circle', 'square'];

/** A coordinator and one site that has joined and imported its images; nothing runs but the coordinator. */
async function prepareFederation(cli: CommandLine) {
  const coordinator = await cli.start(
    'coordinator',
    ...['coordinator', 'start', '--federation', 'Test', '--port', '0', '--host', '127.0.0.1'],
  );
  const invited = await cli.anneal(
    'coordinator',
    ...['coordinator', 'invite', '--site', 'Klinik Nord', '--out', 'invitation.txt', '--json'],
  );
  const joined = await cli.anneal('site', 'site', 'join', '--invitation', 'invitation.txt', '--json');
  // It is alone, and a round takes few steps: its own people have to want that.
  const rules = ['minContributors=1', 'minSteps=1', 'minSubjects=1', 'minSubjectsPerClass=1'];
  const refused = await cli.anneal('site', 'site', 'policy', 'set', ...rules, '--json');
  const policy = await cli.anneal('site', 'site', 'policy', 'set', ...rules, '--weaken', '--json');
  await writeImages(cli.folder, { count: 24, labels: classes });
  const imported = await cli.anneal(
    'site',
    ...['site', 'import', '--images', 'images', '--labels', 'labels.csv', '--already-cropped', '--json'],
  );
  return { coordinator, invited, joined, policy: { refused, set: policy }, imported };
}

describe('help', () => {
  test.each([
    ['demo', ['--out', '--rounds', '--sites', '--schedule', '--seed', '--images', '--labels', '--no-ui']],
    ['serve', ['--port', '--data', '--approve', '--json']],
    ['doctor', ['--base', '--json']],
    ['coordinator', ['start', 'invite', 'run', 'status']],
    ['coordinator start', ['--federation', '--port', '--host', '--ui-port', '--data', '--json']],
    ['coordinator invite', ['--site', '--hours', '--out', '--data', '--json']],
    ['coordinator run', ['--classes', '--strategy', '--rounds', '--schedule', '--quorum', '--no-watch']],
    ['coordinator status', ['--data', '--json']],
    ['site', ['join', 'import', 'start', 'status']],
    ['site join', ['--invitation', '--name', '--data', '--json']],
    ['site import', ['--images', '--labels', '--already-cropped', '--data', '--json']],
    ['site start', ['--approve', '--threads', '--ui-port', '--data', '--json']],
    ['site status', ['--data', '--json']],
  ])('of "anneal %s" names what it takes', async (command, names) => {
    await using cli = openCommandLine();

    const { code, stdout, stderr } = await cli.anneal('unused', ...command.split(' '), '--help');

    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const name of names) expect(stdout).toContain(name);
  });

  test('a wrong call ends with 1 and says what is wrong, as JSON for a script', async () => {
    await using cli = openCommandLine();

    const plain = await cli.anneal('unused', 'site', 'import', '--images', 'here');
    const json = await cli.anneal('unused', 'site', 'import', '--images', 'here', '--json');

    expect(plain).toMatchObject({ code: 1, stdout: '' });
    expect(plain.stderr).toMatch(/required option '--labels <file>' not specified\n\(add --help/);
    expect(json).toMatchObject({ code: 1, stderr: '' });
    expect(JSON.parse(json.stdout)).toMatchObject({ type: 'error', error: { code: 'CONFIG_INVALID' } });
  });
});

test('doctor measures training on the processor', async () => {
  await using cli = openCommandLine();

  const { code, stdout } = await cli.anneal('unused', 'doctor', '--time', '10', '--json');

  const report = JSON.parse(stdout);
  expect(code).toBe(0);
  expect(report.recommended).not.toBeNull();
  const cpu = report.devices.find((device: { kind: string }) => device.kind === 'cpu');
  expect(cpu.imagesPerSecond).toBeGreaterThan(0);
  expect(cpu.peakMemoryBytes).toBeGreaterThan(0);
});

test(
  'a federation by commands: invited, joined, imported, trained, looked at, stopped',
  async () => {
    await using cli = openCommandLine();
    const { coordinator, invited, joined, policy, imported } = await prepareFederation(cli);
    const site = await cli.start('site', 'site', 'start', '--approve', '--threads', '1');

    const run = await cli.anneal(
      'coordinator',
      ...['coordinator', 'run', '--classes', classes.join(), '--rounds', '2', '--initiating-rounds', '0'],
      ...['--r-max', '2', '--r-min', '1', '--quorum', '1', '--seed', '3'],
    );
    const siteStatus = await cli.anneal('site', 'site', 'status', '--json');
    const overview = await cli.anneal('coordinator', 'coordinator', 'status', '--json');
    const siteEnd = await site.stop('SIGINT');
    const coordinatorEnd = await coordinator.stop('SIGTERM');
    const startedAgain = await cli.anneal('coordinator', 'coordinator', 'status');

    expect(coordinator.ready).toMatchObject({ url: null, accessCode: null });
    expect(JSON.parse(invited.stdout)).toMatchObject({ file: 'invitation.txt' });
    const invitation = join(cli.folder, 'invitation.txt');
    if (process.platform !== 'win32') expect(statSync(invitation).mode & 0o777).toBe(0o600);
    expect(readFileSync(invitation, 'utf8').trim()).not.toBe('');
    expect(JSON.parse(joined.stdout)).toMatchObject({
      mode: 'site',
      name: 'Klinik Nord',
      federation: 'Test',
    });
    expect(policy.refused.code).toBe(1);
    expect(JSON.parse(policy.refused.stdout).error.message).toContain('protects less than before');
    expect(JSON.parse(policy.set.stdout)).toMatchObject({
      version: 2,
      policy: { minSteps: 1, minSmallCell: 5 },
    });
    expect(JSON.parse(imported.stdout)).toMatchObject({ imported: 24, setAside: [], withoutConsent: 0 });
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toContain('finished, round 2 of 2');
    expect(JSON.parse(siteStatus.stdout)).toMatchObject({
      broker: { state: 'online' },
      problem: null,
      images: { ready: 24, withConsent: 24 },
      run: { status: 'finished' },
    });
    const { sites, current } = JSON.parse(overview.stdout);
    expect(sites).toMatchObject([{ name: 'Klinik Nord', online: true, revoked: false }]);
    expect(current).toMatchObject({
      status: 'finished',
      rounds: 2,
      done: [{ status: 'closed' }, { status: 'closed' }],
    });
    // Ended by themselves, and the folder is free for the next Anneal.
    expect(siteEnd).toMatchObject({ code: 0, stderr: '' });
    expect(coordinatorEnd).toMatchObject({ code: 0, stderr: '' });
    expect(startedAgain).toMatchObject({ code: 0, stderr: '' });
    expect(startedAgain.stdout).toContain('offline');
  },
  testTimeoutMs,
);

test(
  'a site whose broker hangs still stops within five seconds',
  async () => {
    await using cli = openCommandLine();
    const { coordinator } = await prepareFederation(cli);
    const site = await cli.start('site', 'site', 'start', '--approve');
    coordinator.child.node.kill('SIGSTOP');

    const { code, wallMs } = await site.stop('SIGTERM');

    expect(code).toBe(0);
    expect(wallMs).toBeLessThan(5_000);
  },
  testTimeoutMs,
);
