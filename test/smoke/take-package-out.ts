/**
 * Copies the packaged app to a folder outside the checkout before the tests. Inside it, a module that was not
 * packaged would silently be found in the checkout's own node_modules.
 */
import { constants, cpSync, existsSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { packagedApp } from './packaged-app.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Folder of the packaged app, outside the checkout. */
    packageFolder: string;
  }
}

const dist = fileURLToPath(new URL('../../dist', import.meta.url));

export default function setup(project: TestProject): () => void {
  const name = (existsSync(dist) ? readdirSync(dist) : []).find((entry) =>
    /^(linux|win)(-arm64)?-unpacked$|^mac(-arm64)?$/.test(entry),
  );
  if (name === undefined) {
    throw new Error('There is no packaged app in dist/: run "npm run dist:dir" first.');
  }
  // A package that was interrupted has no resources yet.
  if (!existsSync(packagedApp(join(dist, name)).node)) {
    throw new Error(`The packaged app in dist/${name} is not complete: run "npm run dist:dir" again.`);
  }
  const outside = mkdtempSync(join(realpathSync(tmpdir()), 'anneal-smoke-'));
  const packageFolder = join(outside, 'Anneal');
  cpSync(join(dist, name), packageFolder, {
    recursive: true,
    verbatimSymlinks: true,
    mode: constants.COPYFILE_FICLONE,
  });
  project.provide('packageFolder', packageFolder);
  return () => rmSync(outside, { recursive: true, force: true, maxRetries: 5 });
}
