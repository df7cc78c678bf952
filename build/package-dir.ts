/**
 * `npm run dist:dir`: packages the app into a folder, without a network. Takes the Electron named by
 * ELECTRON_DIST, else the one that npm's electron package has downloaded, else (Linux only) the stand-in.
 */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Arch, build, Platform } from 'electron-builder';
import { AppError } from '../core/shared/errors.ts';
import { assembleStandInDist, standInFolder } from './standin-dist.ts';

const checkout = fileURLToPath(new URL('..', import.meta.url));

const source = await electronFolder();
process.env['ELECTRON_DIST'] = source.folder;
const arch = process.arch === 'arm64' ? Arch.arm64 : Arch.x64;
await build({
  targets: Platform.current().createTarget('dir', arch),
  projectDir: checkout,
  config: join(checkout, 'build/electron-builder.config.cjs'),
  publish: 'never',
});
if (source.isStandIn) rmSync(source.folder, { recursive: true, force: true });
report(source.isStandIn);

async function electronFolder(): Promise<{ folder: string; isStandIn: boolean }> {
  const given = process.env['ELECTRON_DIST'];
  if (given) return { folder: given, isStandIn: false };
  const installed = join(checkout, 'node_modules/electron/dist');
  if (existsSync(join(installed, 'version'))) return { folder: installed, isStandIn: false };
  if (process.platform !== 'linux') {
    throw new AppError('ELECTRON_MISSING', 'There is no Electron to package.', {
      action: 'Run "npx install-electron", or name an unpacked Electron with ELECTRON_DIST.',
    });
  }
  const folder = join(checkout, 'dist/electron-standin-dist');
  await assembleStandInDist(checkout, folder);
  return { folder, isStandIn: true };
}

/** Says where the package is, how large its parts are, and whether it holds a real Electron. */
function report(isStandIn: boolean): void {
  const output = readdirSync(join(checkout, 'dist')).find((name) => /-unpacked$|^mac(-arm64)?$/.test(name));
  const folder = join(checkout, 'dist', output ?? '');
  const megabytes = (path: string) => `${(sizeBytes(path) / 1e6).toFixed(1)} MB`;
  const resources = findResources(folder);
  const lines = [
    `Packaged into ${relative(checkout, folder)}.`,
    `  Anneal itself: ${megabytes(resources)}, of that`,
    `    the pinned Node: ${megabytes(join(resources, 'node'))}`,
    `    modules: ${megabytes(join(resources, 'app.asar.unpacked/node_modules'))}`,
  ];
  if (isStandIn) {
    lines.push(
      '  This package holds the stand-in for Electron and NOT a real Electron: Electron could not be found here.',
      `  It serves tests only (${standInFolder}/); a package for people comes from a machine that has Electron.`,
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}

function findResources(folder: string): string {
  const inMac = join(folder, 'Anneal.app/Contents/Resources');
  return existsSync(inMac) ? inMac : join(folder, 'resources');
}

function sizeBytes(path: string): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + sizeBytes(join(path, name)), 0);
}
