/** Builds the shell and the screens when a source is newer than what lies in `dist/`. */
import { type Dirent, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { bundleElectron, replaceFolder } from './bundle-electron.ts';

const checkout = fileURLToPath(new URL('..', import.meta.url));

/** @returns the names of the parts that had to be built */
export async function ensureBuilt(): Promise<string[]> {
  const built: string[] = [];
  if (
    isOutdated('dist/electron/main.mjs', [
      'electron',
      'build/bundle-electron.ts',
      'core/agent/agent-process.ts',
      'core/process',
      'core/shared',
    ])
  ) {
    await bundleElectron();
    built.push('shell');
  }
  if (
    isOutdated('dist/renderer/index.html', ['renderer', 'core/config', 'core/shared', 'package-lock.json'])
  ) {
    await replaceFolder(join(checkout, 'dist/renderer'), async (outDir) => {
      const configFile = join(checkout, 'renderer/vite.config.ts');
      await build({ configFile, logLevel: 'warn', build: { outDir, emptyOutDir: true } });
    });
    built.push('screens');
  }
  return built;
}

function isOutdated(product: string, sources: string[]): boolean {
  const file = join(checkout, product);
  if (!existsSync(file)) return true;
  const builtAt = statSync(file).mtimeMs;
  return sources.some((source) => newestChange(join(checkout, source)) > builtAt);
}

function newestChange(path: string): number {
  const own = statSync(path);
  if (!own.isDirectory()) return own.mtimeMs;
  return readdirSync(path, { withFileTypes: true }).reduce(
    (newest: number, entry: Dirent) => Math.max(newest, newestChange(join(path, entry.name))),
    own.mtimeMs,
  );
}
