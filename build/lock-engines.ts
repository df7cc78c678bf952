/**
 * Takes the Node that a package asks for out of package-lock.json where the pinned Node is one and the Node that runs
 * npm may not be. npm knows no such difference: on Debian's Node 20 it would warn of packages that only ever run on
 * Node 24, and leave optional ones out. Run by `npm run lock:engines` after `npm install`; a test says when it is due.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { minVersion, satisfies } from 'semver';

export const lockFile = fileURLToPath(new URL('../package-lock.json', import.meta.url));

interface Lock {
  packages: Record<string, { engines?: { node?: string } | readonly string[] }>;
}

/** @param text of package-lock.json. @returns the same with what npm would needlessly warn of taken out */
export function quietEngines(text: string, pinned: string): string {
  const lock = JSON.parse(text) as Lock;
  const { '': own, ...installed } = lock.packages;
  const oldest = minVersion(nodeOf(own) ?? '*')!;
  for (const entry of Object.values(installed)) {
    const wanted = nodeOf(entry);
    if (wanted !== undefined && satisfies(pinned, wanted) && !satisfies(oldest, wanted)) delete entry.engines;
  }
  return `${JSON.stringify(lock, null, 2)}\n`;
}

function nodeOf(entry: Lock['packages'][string] | undefined): string | undefined {
  return entry?.engines !== undefined && 'node' in entry.engines ? entry.engines.node : undefined;
}

if (import.meta.main) writeFileSync(lockFile, quietEngines(readFileSync(lockFile, 'utf8'), process.version));
