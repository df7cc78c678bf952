/**
 * Bundles the desktop shell: `dist/electron/main.mjs`, `preload.cjs` (a sandboxed preload script has to be
 * CommonJS) and the tray's icon. Run by `npm run build:electron`.
 */
import { copyFileSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const checkout = fileURLToPath(new URL('..', import.meta.url));

/**
 * Bundles one entry with everything it imports, except `external` and Node's own modules.
 * @param outFile path of the bundle; `.cjs` makes CommonJS, anything else an ES module
 */
export async function bundle(entry: string, outFile: string, external: string[]): Promise<void> {
  await build({
    configFile: false,
    root: checkout,
    logLevel: 'warn',
    ssr: { noExternal: true, external },
    build: {
      ssr: entry,
      outDir: dirname(outFile),
      emptyOutDir: false,
      target: 'node24',
      minify: false, // Readable in a bug report; it is small.
      rolldownOptions: {
        external,
        output: {
          format: outFile.endsWith('.cjs') ? 'cjs' : 'es',
          entryFileNames: basename(outFile),
          codeSplitting: false,
        },
      },
    },
  });
}

/**
 * Makes a folder anew: `fill` writes into an empty one beside it, which then takes its place, so that an app
 * that is being started never sees half of it.
 */
export async function replaceFolder(folder: string, fill: (empty: string) => Promise<void>): Promise<void> {
  const fresh = `${folder}.new-${process.pid}`;
  const old = `${folder}.old-${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  try {
    await fill(fresh);
    try {
      renameSync(folder, old);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    renameSync(fresh, folder);
  } finally {
    for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
  }
}

/** Builds the shell into `dist/electron` of the checkout. */
export async function bundleElectron(): Promise<void> {
  await replaceFolder(join(checkout, 'dist/electron'), async (out) => {
    await bundle(join(checkout, 'electron/main/main.ts'), join(out, 'main.mjs'), ['electron']);
    await bundle(join(checkout, 'electron/preload/preload.ts'), join(out, 'preload.cjs'), ['electron']);
    copyFileSync(join(checkout, 'build/icons/32x32.png'), join(out, 'tray.png'));
  });
}

if (import.meta.main) await bundleElectron();
