/**
 * A disk of its own for each member, small enough to be filled: a tmpfs, which takes a mount namespace. On Linux any user may
 * have one, unless the administrator forbids it; the program then runs without full disks and says so.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const insideFlag = 'ANNEAL_CHAOS_NAMESPACE';

/** How to run a program in a mount namespace of its own; null where that is impossible. */
export function namespaceCommand(): string[] | null {
  const command = ['unshare', '--user', '--map-root-user', '--mount'];
  try {
    execFileSync(command[0]!, [...command.slice(1), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], {
      stdio: 'ignore',
    });
    return command;
  } catch {
    return null;
  }
}

export const isInside = () => process.env[insideFlag] === '1';
export const insideEnvironment = () => ({ ...process.env, [insideFlag]: '1' });
export const programFile = fileURLToPath(new URL('./main.ts', import.meta.url));

/** Mounts a small disk on a folder; only inside the namespace, where nobody else sees it. */
export function mountDisk(folder: string, sizeMib: number): void {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m,mode=0700`, 'tmpfs', folder]);
}

export const unmountDisk = (folder: string) => void execFileSync('umount', ['--lazy', folder]);

const ballastOf = (folder: string) => join(folder, 'ballast');
const blockBytes = 4 * 2 ** 20;

/** Fills the disk but for these bytes. @returns false when the folder has no disk of its own */
export function fillDisk(folder: string, leftBytes: number): boolean {
  if (statSync(folder).dev === statSync(join(folder, '..')).dev) return false;
  const file = openSync(ballastOf(folder), 'w');
  try {
    let size = 0;
    for (let block = Buffer.alloc(blockBytes); block.length >= 1024; ) {
      try {
        size += writeSync(file, block);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        block = block.subarray(0, Math.floor(block.length / 2));
      }
    }
    ftruncateSync(file, Math.max(0, size - leftBytes));
  } finally {
    closeSync(file);
  }
  return true;
}

export const freeDisk = (folder: string) => rmSync(ballastOf(folder), { force: true });
