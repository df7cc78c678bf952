/** Content-addressed files: `<folder>/<first two hex digits>/<sha256>`. */

export interface BlobStore {
  /**
   * Writes atomically (temporary file, fsync, rename) and gives the SHA-256.
   * @param options `unsettled`: whole or not there at all after a power cut, but sure to be there only after
   *   {@link settle}; for many blobs of which nothing says yet that they exist
   * @throws AppError DISK_FULL
   */
  put(bytes: Uint8Array, options?: { unsettled?: boolean }): Promise<string>;
  /** Afterwards all blobs of this store survive a power cut. @throws AppError DISK_FULL */
  settle(): Promise<void>;
  has(sha256: string): boolean;
  /** Path of a complete blob. @throws AppError NOT_FOUND */
  path(sha256: string): string;
  sizeBytes(sha256: string): number;
  /** Verifies the hash. @throws AppError NOT_FOUND; BLOB_CORRUPT when the disk damaged it (it is put aside then) */
  read(sha256: string): Promise<Uint8Array>;
  /**
   * Reads the whole file, a piece at a time. One that is damaged is put aside, so that it is not here any more.
   * @returns whether it is here and whole
   */
  verify(sha256: string): Promise<boolean>;
  /** Opens or goes on with a transfer; survives restarts of the process. */
  openPartial(sha256: string, sizeBytes: number, chunkBytes: number): Promise<PartialBlob>;
  /** Until it is disposed of, what is put counts as in use: for blobs that the database names only afterwards. */
  hold(): Disposable;
  /** Until it is disposed of, nothing that is here is unneeded; for a backup, which copies what rows named a moment ago. */
  keep(): KeptBlobs;
  /** Whether it is held or kept, or a transfer of it is open. */
  isInUse(sha256: string): boolean;
  /** For core/store/retention.ts, which knows what nobody needs. Gone at once for all other calls, also what was put aside as damaged. */
  delete(sha256: string): Promise<void>;
  /** Temporary files of a process that died in the middle of writing or deleting a blob. */
  deleteLeftovers(): Promise<void>;
  /** Hashes of all complete blobs, in no order. */
  list(): string[];
  /** Hashes of transfers of which something is here, in no order. */
  unfinished(): string[];
}

export interface KeptBlobs extends Disposable {
  /** From now on these are kept, and nothing else. */
  only(hashes: ReadonlySet<string>): void;
}

export interface PartialBlob {
  readonly chunks: number;
  /** Indices of chunks not yet written. */
  missing(): number[];
  /** Repeating a chunk changes nothing. @throws AppError BLOB_CORRUPT for a wrong length or index; DISK_FULL */
  write(index: number, bytes: Uint8Array): Promise<void>;
  /** Verifies the whole hash and moves the file into place. @throws AppError BLOB_CORRUPT (the partial file is thrown away, unless only chunks are missing) */
  complete(): Promise<void>;
  /** Closes the file and keeps what arrived for the next time. */
  suspend(): Promise<void>;
}
