/** The data folder: where one Anneal keeps everything, and the lock that keeps a second Anneal out. */
import type { BlobStore } from './blob-store.ts';

export interface DataFolder {
  readonly dir: string;
  readonly dbFile: string;
  readonly blobs: BlobStore;
  readonly logsDir: string;
  /** Aligned crops of photographs; never leaves the site. */
  readonly cropsDir: string;
  readonly trainingDir: string;
  readonly keysDir: string;
}

export interface DataFolderLock {
  release(): void;
}

/** Makes the folder (mode 0700) and its sub-folders where missing. @throws AppError DATA_FOLDER_UNUSABLE | DISK_FULL */
export declare function openDataFolder(dir: string): DataFolder;

/** One Anneal per data folder; the lock dies with the process. @throws AppError DATA_FOLDER_IN_USE | DATA_FOLDER_UNUSABLE */
export declare function lockDataFolder(dir: string): DataFolderLock;
