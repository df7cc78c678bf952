/** Backups that a running agent makes: one at a time, with its progress, and what it knows of earlier ones. */
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import type { AgentEvent } from '../api/contract.ts';
import type { BackupRequest, Backups } from '../backup/backups.ts';
import { knownBackups, recordBackup, restoredFrom } from '../backup/known-backups.ts';
import { type BackupProgress, createEstimate } from '../backup/progress.ts';
import { emptyWorkFolder } from '../backup/work-folder.ts';
import { type BackupSource, type WrittenBackup, writeBackup } from '../backup/write-backup.ts';
import { checkPassword } from '../people/password-rules.ts';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { DataFolder } from '../store/data-folder.ts';
import type { Store } from '../store/store.ts';

export interface BackupsOptions {
  readonly store: Store;
  readonly data: DataFolder;
  readonly logger: Logger;
  origin(): BackupSource['origin'];
  emit(event: AgentEvent): void;
  /** Called after each, whatever came of it: erasures have waited for it. */
  afterwards(): Promise<void>;
}

/** The unfinished file of a backup that is being made; another process deletes it when this one was killed. */
const unfinishedSetting = 'backup.unfinished';
const unfinishedSchema = z.string().regex(/\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$/);
const mostListed = 100;
const emitEveryMs = 250;

/** Deletes what a process that was killed in the middle of a backup left. With the lock of the data folder. */
export async function createBackups(options: BackupsOptions): Promise<Backups> {
  const { store, data, logger } = options;
  try {
    emptyWorkFolder(data.dir);
  } catch (error) {
    // Tried again at the next start.
    logger.warn({ error }, 'what an unfinished backup left could not be deleted');
  }
  await deleteUnfinished(store, logger);
  /** The trail is long, and screens ask often. */
  let made = knownBackups(store);
  let underWay: { progress: BackupProgress; abort: AbortController; done: Promise<unknown> } | null = null;

  async function make(request: BackupRequest, actor: string): Promise<WrittenBackup> {
    if (underWay !== null)
      throw new AppError('RUN_CONFLICT', 'A backup is being made already.', {
        action: 'Wait until it is finished, or cancel it.',
      });
    const abort = new AbortController();
    const work = write(request, actor, abort.signal);
    const progress: BackupProgress = { phase: 'database', doneBytes: 0, totalBytes: 0, secondsLeft: null };
    underWay = { progress, abort, done: work.catch(() => {}) };
    try {
      return await work;
    } finally {
      underWay = null;
      options.emit({ type: 'changed', what: 'backup' });
    }
  }

  async function write(request: BackupRequest, actor: string, signal: AbortSignal): Promise<WrittenBackup> {
    const origin = options.origin();
    const own = [origin.name, origin.federation].filter((word) => word !== null);
    await checkPassword(request.passphrase, own, 'passphrase');
    try {
      const written = await writeBackup(
        { store, data, origin },
        {
          ...{ target: request.file, passphrase: request.passphrase, withModels: request.withModels, signal },
          onProgress: tellProgress(),
          onTemporary: (file) =>
            file === null
              ? store.settings.remove(unfinishedSetting)
              : store.settings.set(unfinishedSetting, file),
        },
      );
      recordBackup(store, written, actor);
      made = knownBackups(store);
      options.emit({ type: 'changed', what: 'audit' });
      logger.info(
        { backup: written.id, bytes: written.sizeBytes, missing: written.missing },
        'a backup was made',
      );
      return written;
    } catch (error) {
      logger.warn({ error }, 'no backup was made');
      throw error;
    } finally {
      await options.afterwards();
    }
  }

  function tellProgress() {
    const estimate = createEstimate();
    let toldMs = Number.NEGATIVE_INFINITY;
    return (done: Omit<BackupProgress, 'secondsLeft'>) => {
      if (underWay === null) return;
      underWay.progress = estimate(done);
      const nowMs = performance.now();
      if (nowMs - toldMs < emitEveryMs) return;
      toldMs = nowMs;
      options.emit({ type: 'changed', what: 'backup' });
    };
  }

  return {
    make,
    cancel() {
      underWay?.abort.abort();
      return underWay !== null;
    },
    get newestAt() {
      return made[0]?.madeAt ?? null;
    },
    state() {
      const newestErasure = store.erasures.list().at(-1)?.askedAt ?? '';
      return {
        made: made.slice(0, mostListed),
        count: made.length,
        beforeErasure: made.filter(({ madeAt }) => madeAt < newestErasure).length,
        underWay: underWay?.progress ?? null,
        restored: restoredFrom(store),
      };
    },
    async close() {
      underWay?.abort.abort();
      await underWay?.done;
    },
  };
}

async function deleteUnfinished(store: Store, logger: Logger): Promise<void> {
  const file = store.settings.get(unfinishedSetting, z.unknown());
  if (file === null) return;
  const parsed = unfinishedSchema.safeParse(file);
  try {
    if (parsed.success) await rm(parsed.data, { force: true });
    store.settings.remove(unfinishedSetting);
  } catch (error) {
    logger.warn({ error }, 'the unfinished file of a backup could not be deleted');
  }
}
