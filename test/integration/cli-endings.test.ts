/** How the command ends when somebody breaks it off: Ctrl-C on a terminal, or a reader that goes away. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { openCommandLine } from '../fixtures/command-line.ts';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const program = join(repository, 'core/cli/anneal.ts');
const cli = openCommandLine();
afterAll(() => cli[Symbol.asyncDispose]());

/** Of util-linux: runs a command on a terminal of its own. */
const terminal = '/usr/bin/script';
const testTimeoutMs = 120_000;

/** More rounds than a test would wait for. */
const experiment = `
data:
  faces: {subjects: 24, imagesPerSubject: 2}
base: {path: ${join(repository, 'test/fixtures/peft/small-vit')}, id: small-vit}
sites: 2
policy: open
settings: {rounds: 900, training: {batchSize: 8, epochs: 1}}
strategies: [fedavg-lora]
`;

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}

test.skipIf(!existsSync(terminal))(
  'Ctrl-C on a terminal ends "anneal simulate" with 130, says how to go on, and leaves the run to go on with',
  async () => {
    const file = join(cli.folder, 'long.yaml');
    writeFileSync(file, experiment);
    // Without a size of its own the terminal would have no columns to draw in.
    const command = `stty cols 120 rows 30; '${process.execPath}' '${program}' simulate '${file}' --workers 1 --data '${cli.folder}'`;
    const child = spawn(terminal, ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    let screen = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (screen += text));
    onTestFinished(() => void child.kill());
    const ended = once(child, 'close');
    // A round is over: the bar is on the screen, and a site may be training.
    await Promise.race([until(() => /round [1-9]\d*\/900/.test(screen)), ended]);

    child.stdin.write('\u0003');
    const [code] = await ended;

    expect(screen).toContain('Stopped. Run the same command again to continue from here.');
    expect(code).toBe(130);
    expect(await readdir(join(cli.folder, 'long-results/work/runs'))).toHaveLength(1);
  },
  testTimeoutMs,
);

test(
  'Ctrl-C before the report ends "anneal demo --json" with 130 and nothing but JSON on standard output',
  async () => {
    const demo = await cli.start('demo', 'demo', '--out', 'demo-output');

    const { code, stdout } = await demo.stop();

    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).type)).toEqual(['screens']);
    expect(code).toBe(130);
  },
  testTimeoutMs,
);

test(
  'a reader that goes away ends the command without a word',
  async () => {
    const child = spawn(process.execPath, [program, 'plan', '--rounds', '900', '--data', cli.folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));

    child.stdout.destroy();
    const [code] = await once(child, 'close');

    expect({ code, errors }).toEqual({ code: 141, errors: '' });
  },
  testTimeoutMs,
);

test(
  'an output folder that cannot be made is named before anything is imported',
  async () => {
    const file = join(cli.folder, 'taken.yaml');
    writeFileSync(file, experiment);

    const outcome = await cli.anneal('data', 'simulate', file, '--out', join(file, 'below'));

    expect(outcome).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'Error: The output folder of the experiment cannot be created.\nChoose one that you can write to with --out.\n',
    });
  },
  testTimeoutMs,
);
