/**
 * `npm start`: opens the desktop app. Where Electron's binary is missing it is fetched first; where that is not
 * possible, one sentence says what to do instead.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureBuilt } from '../build/ensure-built.ts';
import { AppError, toAppError } from '../core/shared/errors.ts';

const checkout = fileURLToPath(new URL('..', import.meta.url));
/** The binary is about 110 MB; a line that brings it no faster than this is better served by the browser. */
const downloadTimeoutMs = 10 * 60_000;

try {
  const electron = electronExecutable();
  const built = await ensureBuilt();
  if (built.length > 0) process.stdout.write(`Built: ${built.join(', ')}.\n`);
  const child = spawn(electron, [checkout, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  child.once('error', (error) => fail(toAppError(error)));
  child.once('exit', (code) => process.exit(code ?? 1));
} catch (error) {
  fail(toAppError(error));
}

/**
 * Path of Electron's executable, downloaded if need be.
 * @throws AppError ELECTRON_MISSING
 */
function electronExecutable(): string {
  const folder = dirname(createRequire(import.meta.url).resolve('electron/package.json'));
  const known = installedExecutable(folder);
  if (known !== null) return known;
  process.stdout.write('Fetching Electron, once…\n');
  const { status } = spawnSync(process.execPath, [join(folder, 'install.js')], {
    stdio: 'ignore',
    timeout: downloadTimeoutMs,
  });
  const fetched = status === 0 ? installedExecutable(folder) : null;
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
