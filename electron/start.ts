/**
 * `npm start`: opens the desktop app. Where Electron's binary is missing it is fetched first; where that is not
 * possible, one sentence says what to do instead.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureBuilt } from '../build/ensure-built.ts';
import { runProgram, startChild } from '../core/process/child-process.ts';
import { AppError, toAppError } from '../core/shared/errors.ts';

const checkout = fileURLToPath(new URL('..', import.meta.url));
/** The binary is about 110 MB; a line that brings it no faster than this is better served by the browser. */
const downloadTimeoutMs = 10 * 60_000;

try {
  const electron = await electronExecutable();
  const built = await ensureBuilt();
  if (built.length > 0) process.stdout.write(`Built: ${built.join(', ')}.\n`);
  const { node, ended } = startChild(electron, [checkout, ...process.argv.slice(2)], { output: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => node.kill(signal));
  const { code, startError } = await ended;
  if (startError !== undefined) throw startError;
  process.exit(code ?? 1);
} catch (error) {
  fail(toAppError(error));
}

/**
 * Path of Electron's executable, downloaded if need be.
 * @throws AppError ELECTRON_MISSING
 */
async function electronExecutable(): Promise<string> {
  const folder = dirname(createRequire(import.meta.url).resolve('electron/package.json'));
  const known = installedExecutable(folder);
  if (known !== null) return known;
  process.stdout.write('Fetching Electron, once…\n');
  const { failed } = await runProgram(process.execPath, [join(folder, 'install.js')], {
    timeout: downloadTimeoutMs,
  });
  const fetched = failed ? null : installedExecutable(folder);
  if (fetched !== null) return fetched;
  throw new AppError('ELECTRON_MISSING', 'Electron could not be downloaded', {
    action: 'run "npm run anneal -- serve" and use the same screens in your browser instead.',
  });
}

/** The electron package writes the name of the executable into `path.txt` after unpacking it. */
function installedExecutable(folder: string): string | null {
  const nameFile = join(folder, 'path.txt');
  const dist = process.env['ELECTRON_OVERRIDE_DIST_PATH'] ?? join(folder, 'dist');
  const name = existsSync(nameFile) ? readFileSync(nameFile, 'utf8').trim() : 'electron';
  const path = join(dist, name);
  return existsSync(path) ? path : null;
}

function fail(error: AppError): void {
  const separator = error.code === 'ELECTRON_MISSING' ? ':' : '';
  process.stderr.write(`${error.message}${separator} ${error.action}\n`);
  process.exitCode = 1;
}
