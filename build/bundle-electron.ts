/**
 * Bundles the desktop shell: `dist/electron/main.mjs`, `preload.cjs` (a sandboxed preload script has to be
 * CommonJS) and the tray's icon. Run by `npm run build:electron`.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const checkout = fileURLToPath(new URL('..', import.meta.url));

/**
 * Bundles one entry with everything it imports, except `external` and Node's own modules.
 * @param outFile path of the bundle; `.cjs` makes CommonJS, anything else an ES module
 */
export async function bundle(entry: string, outFile: string, external: string[]): Promise<void> {
  const outDir = join(outFile, '..');
  const isCommonJs = outFile.endsWith('.cjs');
  await build({
    configFile: false,
    root: checkout,
    logLevel: 'warn',
    ssr: { noExternal: true, external },
    build: {
      ssr: entry,
      outDir,
      emptyOutDir: false,
      target: 'node24',
      minify: false, // Readable in a bug report; it is small.
      rolldownOptions: {
        external,
        output: {
          format: isCommonJs ? 'cjs' : 'es',
          entryFileNames: outFile.slice(outDir.length + 1),
          codeSplitting: false,
        },
      },
    },
  });
}

/** Builds the shell into `dist/electron` of the checkout. */
export async function bundleElectron(): Promise<void> {
  const out = join(checkout, 'dist/electron');
  rmSync(out, { recursive: true, force: true });
  await bundle(join(checkout, 'electron/main/main.ts'), join(out, 'main.mjs'), ['electron']);
  await bundle(join(checkout, 'electron/preload/preload.ts'), join(out, 'preload.cjs'), ['electron']);
  copyFileSync(join(checkout, 'build/icons/32x32.png'), join(out, 'tray.png'));
}

if (import.meta.main) await bundleElectron();
