/** What the API sees of the backups that an agent makes. */
import type { KnownBackup, RestoredFrom } from './known-backups.ts';
import type { BackupProgress } from './progress.ts';
import type { WrittenBackup } from './write-backup.ts';

export interface BackupRequest {
  /** To write; absolute. */
  file: string;
  passphrase: string;
  withModels: boolean;
}

export interface BackupState {
  /** Newest first, at most 100. Nobody tells Anneal when one is deleted. */
  made: KnownBackup[];
  count: number;
  /** Those of them that were made before the newest erasure: they may hold somebody who was erased since. */
  beforeErasure: number;
  underWay: BackupProgress | null;
  /** When this data folder itself came from a backup. */
  restored: RestoredFrom | null;
}

export interface Backups {
  /** @throws AppError, see `writeBackup`; PASSWORD_REFUSED; RUN_CONFLICT while another one is being made */
  make(request: BackupRequest, actor: string): Promise<WrittenBackup>;
  /** False when none is being made. */
  cancel(): boolean;
  state(): BackupState;
  /** When the newest one that is known was made; null: never. Costs nothing. */
  readonly newestAt: string | null;
  close(): Promise<void>;
}
