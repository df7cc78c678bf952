/**
 * Some room in the data folder that is given away when the disk is full and somebody withdraws: a file that holds nothing. It
 * is made again when there is room.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { AppError } from '../shared/errors.ts';
import { freeBytesNow } from './free-space.ts';

/** A withdrawal takes some pages of the database and of its log, an erasure the rows of one person. */
const reserveBytes = 4 * 2 ** 20;
/** It is not made where it would be the one to fill the disk. */
const leastFreeBytes = 4 * reserveBytes;
/** Below this much a person is told: the next update or checkpoint may not fit. */
const lowBytes = 2 * reserveBytes;
const pieceBytes = 2 ** 20;

export interface Reserve {
  /** Makes it where it is missing and there is room. Never throws: the disk may fill up meanwhile. */
  ensure(): void;
  /** @returns whether there was one to give away */
  release(): boolean;
  /** Whether a withdrawal has room now: in the reserve, or on the disk. */
  readonly isSafe: boolean;
  /** What a person should know of the disk; null while there is room. */
  readonly problem: AppError | null;
}

export function createReserve(folder: string): Reserve {
  const file = path.join(folder, 'reserve');
  const isLow = () => freeBytesNow(folder) < lowBytes;
  return {
    get isSafe() {
      try {
        return existsSync(file) || !isLow();
      } catch {
        return true;
      }
    },
    ensure() {
      try {
        if (existsSync(file) || freeBytesNow(folder) < leastFreeBytes) return;
        writeFull(file);
      } catch {
        rmSync(file, { force: true });
      }
    },
    release() {
      if (!existsSync(file)) return false;
      rmSync(file, { force: true });
      return true;
    },
    get problem() {
      try {
        if (!isLow()) return null;
      } catch {
        return null;
      }
      return new AppError('DISK_FULL', 'The disk that holds the data folder is full, or nearly so.', {
        action:
          'Free some space on it. Withdrawals are recorded all the same; rounds go on by themselves when there is room.',
      });
    },
  };
}

/** Of random bytes: a file system that compresses would reserve nothing for others. */
function writeFull(file: string): void {
  const piece = Buffer.alloc(pieceBytes);
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    for (let written = 0; written < reserveBytes; ) {
      randomFillSync(piece);
      written += writeSync(descriptor, piece);
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
