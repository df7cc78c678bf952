/** Folders that people name. */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';

/**
 * Makes a folder and those above it that are missing. Node's own recursive mkdir (24.21) never returns where the
 * system says of a new folder that its parent does not exist although it does, as Linux does under /proc.
 * @param mode of the folders that are made
 * @throws the system's error, for instance ENOENT, ENOTDIR or EACCES
 */
export function makeFolder(folder: string, { mode = 0o777 }: { mode?: number } = {}): void {
  const missing: string[] = [];
  for (let place = path.resolve(folder); !isThere(place); place = path.dirname(place)) missing.push(place);
  for (const place of missing.reverse()) {
    try {
      mkdirSync(place, { mode });
    } catch (error) {
      // Somebody else may have made it meanwhile.
      if (!isThere(place)) throw error;
    }
  }
  // A file in the folder's place is an error, as with mkdir itself.
  if (missing.length === 0 && !statSync(folder).isDirectory()) mkdirSync(folder);
}

/** Not a broken link, and not below a file: then making it tells what is wrong. */
function isThere(place: string): boolean {
  return statSync(place, { throwIfNoEntry: false }) !== undefined;
}
