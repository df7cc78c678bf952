/**
 * `npm run setup:tensorflow` when it cannot work: it says why and leaves what is there as it was. That it works
 * is shown by `.ci/tensorflow.sh`, which needs 600 MB.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../build/setup-tensorflow.ts', import.meta.url));

let folder: string;
let target: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'anneal-setup-tensorflow-'));
  target = path.join(folder, 'tensorflow');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

function setUp(parameters: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const env = { ...process.env, ...variables };
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...parameters], { env }, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** Files that look like libtensorflow from outside. */
async function writeLibrary(parts: readonly string[]): Promise<string> {
  const from = path.join(folder, 'from');
  for (const part of parts) {
    await mkdir(path.dirname(path.join(from, part)), { recursive: true });
    await writeFile(path.join(from, part), '#error not the real one\n');
  }
  await mkdir(from, { recursive: true });
  return from;
}

const header = 'include/tensorflow/c/eager/c_api.h';
const libraries = ['lib/libtensorflow.so.2', 'lib/libtensorflow_framework.so.2'];

describe.skipIf(process.platform !== 'linux')('--from', () => {
  test.each([
    ['headers', libraries, {}, /no include\/tensorflow\/c\/eager\/c_api\.h/],
    ['the library', [header], {}, /no libtensorflow\.so\.2 or libtensorflow_cc\.so\.2/],
    ['the second library', [header, libraries[0]!], {}, /no libtensorflow_framework\.so\.2/],
    ['a compiler', [header, ...libraries], { CXX: 'no-such-compiler' }, /no compiler "no-such-compiler"/],
    ['a right version', [header, ...libraries], {}, /could not be built against this libtensorflow/],
  ])('without %s it stops in plain words and installs nothing', async (_title, parts, variables, message) => {
    const from = await writeLibrary(parts);

    const { exitCode, stderr } = await setUp(['--from', from, '--to', target], variables);

    expect(exitCode).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain(folder);
    expect(await readdir(folder)).toEqual(['from']);
  });

  test('what was installed stays when the new one cannot be installed', async () => {
    await mkdir(target);
    await writeFile(path.join(target, 'installation.json'), '{"the": "old one"}');
    const from = await writeLibrary([header]);

    const { exitCode } = await setUp(['--from', from, '--to', target]);

    expect(exitCode).toBe(1);
    expect(await readdir(folder)).toEqual(['from', 'tensorflow']);
    expect(await readFile(path.join(target, 'installation.json'), 'utf8')).toBe('{"the": "old one"}');
  });
});

test('a folder with something else in it is not replaced', async () => {
  await mkdir(target);
  await writeFile(path.join(target, 'thesis.txt'), 'years of work');

  const { exitCode, stderr } = await setUp(['--from', folder, '--to', target]);

  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/holds something else than TensorFlow/);
  expect(await readdir(target)).toEqual(['thesis.txt']);
});

test('a server that cannot be reached is said in one sentence, with the way without it', async () => {
  const port = await unusedPort();
  const offline = {
    TFJS_NODE_CDN_STORAGE: `http://127.0.0.1:${port}/`,
    ...Object.fromEntries(
      ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'].map((name) => [name, '']),
    ),
  };

  const { exitCode, stderr } = await setUp(['--to', target], offline);

  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/could not be fetched.*\n.*--from DIR/);
  expect(await readdir(folder)).toEqual([]);
});

test('a wrong argument names the right ones', async () => {
  const { exitCode, stderr } = await setUp(['--form', 'x']);

  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/takes --from DIR, --to DIR, --cpu and --force/);
});

/** A port on which nobody listens. */
function unusedPort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
