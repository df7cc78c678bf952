/**
 * Erases a subject, in steps that each may be repeated: the wish is written down first, so that a process that was killed
 * goes on at its next start.
 *
 * 1. `asked`: every consent is withdrawn, nothing uses the subject any more; log files are blanked out.
 * 2. one transaction deletes every row, replaces what audit rows said, and leaves the tombstone: `files`.
 * 3. blobs and work files go, the database is written anew without free pages, its log is emptied: `done`.
 */
import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import PQueue from 'p-queue';
import { consentStatus, withdrawConsent } from '../consent/consent.ts';
import { purposesOf } from '../consent/purposes.ts';
import { traceSubject } from '../consent/trace.ts';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { SiteNode } from '../site/site-node.ts';
import { erasedAction } from '../store/audit.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ErasureRecord } from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { type Erased, erasedSchema } from './erased.ts';
import { blankOut, withoutPseudonym, withoutSubject, wordsOf } from './subject-words.ts';

export interface EraserOptions {
  store: Store;
  blobs: BlobStore;
  logger: Logger;
  /** Folder of the log files. */
  logsFolder: string;
  /** Of the site: checkpoints and composed models of the round in progress. */
  workFolder: string;
  /** Null where no site is running. */
  site(): Pick<SiteNode, 'withoutSubject'> | null;
}

export interface Eraser {
  /**
   * Resolves when nothing is left, or only files that something uses at the moment (`doneAt` is null then), which
   * {@link resume} tries again. Repeating it gives the same answer.
   * @throws AppError SUBJECT_UNKNOWN; DISK_FULL and others when files are left, which are tried again by {@link resume}
   */
  erase(pseudonym: string, actor: string): Promise<Erasure>;
  /** Goes on with what was not finished. Call it at the start, before the site, and now and then. */
  resume(): Promise<void>;
  /** What was erased under this pseudonym last; null when nothing was. */
  find(pseudonym: string): Erasure | null;
}

export interface Erasure extends Erased {
  id: number;
  /** Null while files are still to be deleted. */
  doneAt: string | null;
}

export function createEraser(options: EraserOptions): Eraser {
  const { store, blobs, logger } = options;
  const queue = new PQueue({ concurrency: 1 });

  /** Of an erasure whose rows are gone. */
  function outcomeOf({ id, outcome, doneAt }: ErasureRecord): Erasure {
    return { ...erasedSchema.parse(outcome), id, doneAt };
  }

  async function finish(erasure: ErasureRecord): Promise<Erasure> {
    let current = erasure;
    if (current.subjectId !== null) {
      const { subjectId } = current;
      const subject = subjectOf(store, subjectId);
      blankOut(options.logsFolder, wordsOf(store, subject));
      const deleteRows = async (isIdle: boolean) => {
        if (isIdle) await emptyFolder(options.workFolder);
        return store.withReserve(() => store.transaction(() => eraseRowsOf(store, erasure, subject)));
      };
      const site = options.site();
      current = await (site === null ? deleteRows(true) : site.withoutSubject(subjectId, deleteRows));
    }
    if (current.state === 'files') {
      const files = current.files ?? [];
      await collectBlobs(store, blobs, files);
      const held = store.blobReferences.heldAmong(files);
      if (files.some((sha256) => blobs.isInUse(sha256) && !held.has(sha256))) {
        logger.info({ erasure: current.id }, 'a file of an erasure is in use; it is tried again');
        return outcomeOf(current);
      }
      await blobs.deleteLeftovers();
      if (!store.forgetDeleted()) throw databaseBusy();
      current = store.erasures.done(current.id);
      // The hashes of its files, too.
      store.emptyLog();
      logger.info({ erasure: current.id }, 'a subject was erased');
    }
    return outcomeOf(current);
  }

  return {
    erase: (pseudonym, actor) =>
      queue.add(async () => {
        const subject = store.subjects.byPseudonym(pseudonym);
        if (subject !== null) return finish(store.withReserve(() => askErasure(store, subject, actor)));
        const before = store.erasures.newestOf(store.subjects.refOf(pseudonym));
        if (before === null) throw new AppError('SUBJECT_UNKNOWN', `There is no subject "${pseudonym}".`);
        return finish(before);
      }),
    resume: () =>
      queue.add(async () => {
        for (const erasure of store.erasures.unfinished()) {
          try {
            await finish(erasure);
          } catch (error) {
            logger.warn({ error, erasure: erasure.id }, 'an erasure is not finished; it is tried again');
          }
        }
      }),
    find(pseudonym) {
      const found = store.erasures.newestOf(store.subjects.refOf(pseudonym));
      return found === null || found.outcome === null ? null : outcomeOf(found);
    },
  };
}

const databaseBusy = () =>
  new AppError('DATA_FOLDER_IN_USE', 'Another program is reading the database of this data folder.', {
    action: 'End it; Anneal goes on with the erasure by itself.',
  });

function subjectOf(store: Store, subjectId: number): { id: number; pseudonym: string } {
  const subject = store.subjects.byId(subjectId);
  if (subject === null) throw new AppError('DATABASE_DAMAGED', 'The subject of an erasure has lost its row.');
  return subject;
}

/** From now on nobody may use the subject, and the erasure will be brought to its end. */
function askErasure(
  store: Store,
  { id, pseudonym }: { id: number; pseudonym: string },
  actor: string,
): ErasureRecord {
  return store.transaction(() => {
    const known = store.erasures.underWay(id);
    if (known !== null) return known;
    const events = store.consentEvents.ofSubject(id);
    const holds = purposesOf(events).some(
      (purpose) => !['withdrawn', 'none'].includes(consentStatus(events, purpose, store.clock.latest())),
    );
    if (holds) withdrawConsent(store, { pseudonym, recordedBy: actor });
    const subjectRef = store.subjects.refOf(pseudonym);
    store.audit.append({ actor, action: 'subject.erasure-asked', details: { subject: subjectRef } });
    return store.erasures.ask({ subjectId: id, subjectRef, actor });
  });
}

/** In a transaction. */
function eraseRowsOf(
  store: Store,
  { id, subjectRef, actor, askedAt }: ErasureRecord,
  subject: { id: number; pseudonym: string },
): ErasureRecord {
  // What the coordinator has to be told follows from rows that go now.
  store.withdrawalNotices.noteOwed();
  store.erasures.beginDeleting(id);
  const { runs } = traceSubject(store, subject.pseudonym);
  const words = { ...wordsOf(store, subject), ref: subjectRef };
  const images = store.images.list({ subjectId: subject.id }).length;
  const consents = store.consentEvents.sayErased(subject.id, actor).map(({ sha256 }) => sha256);
  const rows = store.eraseRows(subject.id, () => forgetWhatWasMade(store, subject.id));
  eraseFromOthers(store, subject.pseudonym);
  const redacted = store.audit.redact((details) => withoutSubject(details, words));
  const common = { subject: subjectRef, images, consents, rows: rows.counts, files: rows.files.length };
  const tombstone = store.audit.append({
    actor,
    action: erasedAction,
    details: {
      ...common,
      runs: runs.map(({ runId, rounds }) => ({ runId, rounds })),
      redacted,
    },
  });
  const outcome: Erased = {
    ...{ ...common, actor, askedAt, redacted: redacted.length, runs },
    tombstone: { seq: tombstone.seq, hash: tombstone.hash },
  };
  return store.erasures.rowsGone(id, rows.files, outcome);
}

/** Files lie in folders named after a person whose image turned out to be another's, and notes say whom one was taken for. */
function eraseFromOthers(store: Store, pseudonym: string): void {
  for (const name of store.images.sourceNames()) {
    const left = withoutPseudonym(name, pseudonym);
    if (left !== null) store.images.renameSource(name, left);
  }
  for (const { id, note } of store.imageCorrections.withNote()) {
    const left = withoutPseudonym(note ?? '', pseudonym);
    if (left !== null) store.imageCorrections.replaceNote(id, left);
  }
}

/**
 * Updates of this site that were trained on the subject, which the coordinator has merged or will never get, and local
 * parameters from the first round with the subject on: each builds upon the one before.
 */
function forgetWhatWasMade(store: Store, subjectId: number): Record<string, number> {
  const cohorts = store.cohorts.bySubject(subjectId);
  const counts = { adapters: 0, site_memory: 0 };
  for (const { runId, round, siteId, updateSha256 } of store.withdrawalNotices.contributionsOf(subjectId))
    counts.adapters += store.adapters.remove({ runId, round, siteId, sha256: updateSha256 });
  const first = new Map<string, number>();
  for (const { runId, round } of cohorts) first.set(runId, Math.min(round, first.get(runId) ?? round));
  for (const { runId, round } of store.siteMemory.list()) {
    if (round < (first.get(runId) ?? Number.POSITIVE_INFINITY)) continue;
    store.siteMemory.remove(runId, round);
    counts.site_memory += 1;
  }
  return counts;
}

async function emptyFolder(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) await rm(join(folder, name), { recursive: true, force: true });
}
