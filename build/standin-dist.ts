/**
 * Assembles a folder that electron-builder takes for an unpacked Electron, with the tests' stand-in as its
 * executable. A package made from it shows that packaging works; it is nothing to give to anybody.
 */
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { bundle } from './bundle-electron.ts';

/** Runs the stand-in on the packaged Node and the packaged resources, wherever the folder lies. */
const executable = `#!/bin/sh
# Stand-in for Electron (for tests only): this package was built where Electron could not be downloaded.
here=$(dirname "$(readlink -f "$0")")
STANDIN_RESOURCES="$here/resources" exec "$here/resources/node/node" "$here/electron-standin/main.mjs" "$@"
`;

/** Folder inside the package with the stand-in's own code; a real Electron has none. */
export const standInFolder = 'electron-standin';

/** @param target folder to make anew */
export async function assembleStandInDist(checkout: string, target: string): Promise<void> {
  const electron = join(checkout, 'node_modules/electron');
  rmSync(target, { recursive: true, force: true });
  for (const folder of ['resources', 'locales', standInFolder]) {
    mkdirSync(join(target, folder), { recursive: true });
  }
  writeFileSync(join(target, 'electron'), executable);
  chmodSync(join(target, 'electron'), 0o755);
  cpSync(join(electron, 'LICENSE'), join(target, 'LICENSE'));
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(readFileSync(join(electron, 'package.json'), 'utf8')));
  writeFileSync(join(target, 'version'), version);
  for (const empty of ['locales/en-US.pak', 'chrome-sandbox']) writeFileSync(join(target, empty), '');
  const entry = join(checkout, 'test/electron-standin/main.ts');
  await bundle(entry, join(target, standInFolder, 'main.mjs'), ['playwright-core', 'original-fs']);
  cpSync(
    join(checkout, 'node_modules/playwright-core'),
    join(target, standInFolder, 'node_modules/playwright-core'),
    { recursive: true },
  );
}
