/** The SQLite store of one Anneal: one file, one writer process. */

import { statSync } from 'node:fs';
import { AppError, toAppError } from '../shared/errors.ts';
import { createAdapters, createCohorts, createSiteMemory } from './adapter-tables.ts';
import { checkAnchor, headOf, writeAnchor } from './anchor.ts';
import { createAudit } from './audit.ts';
import { createClock } from './clock.ts';
import { createConsentCheck } from './consent-chain.ts';
import { createConsentSources } from './consent-source-table.ts';
import { createConsentEvents } from './consent-tables.ts';
import { type ErasedRows, eraseRows } from './erase-rows.ts';
import { createInvitations, createOutbox, createSettings, createSites } from './federation-tables.ts';
import { createDatasets, createImages, createSubjects } from './image-tables.ts';
import { createWithdrawalNotices } from './notice-tables.ts';
import { type Durability, openDatabase, openDatabaseReadOnly } from './open-database.ts';
import { createProposals, createUsers } from './people-tables.ts';
import { createContracts, createDecisions, createSitePolicies } from './policy-tables.ts';
import { createPeers, createPosition } from './position-tables.ts';
import type { Reserve } from './reserve.ts';
import { createBlobReferences } from './retention.ts';
import {
  createErasures,
  createEvaluationCohorts,
  createKeptCrops,
  createModelVersions,
} from './rights-tables.ts';
import {
  createEvaluations,
  createRoundMembers,
  createRoundSites,
  createRounds,
  createRuns,
  createUpdateArrivals,
} from './run-tables.ts';
import type { Sqlite } from './sqlite.ts';
import { createConsentDocuments, createImageCorrections } from './subject-tables.ts';

/**
 * What can be read from and written to each table. Every call may throw AppError DISK_FULL (writers), DATABASE_DAMAGED
 * or INTERNAL. Where a time is optional, the store's clock gives it.
 */
function createTables(
  db: Sqlite,
  now: () => string,
  { onConsent, requireInPlace }: { onConsent: () => void; requireInPlace?: () => void },
) {
  const settings = createSettings(db);
  const subjects = createSubjects(db, now, settings);
  const clock = createClock(db, now, settings);
  const { refOf } = subjects;
  const findBreak = createConsentCheck(db, refOf);
  const audit = createAudit(db, now, { clock, findBreak, requireInPlace });
  return {
    settings,
    clock,
    subjects,
    consentEvents: createConsentEvents(db, now, { audit, refOf, findBreak, onRecord: onConsent }),
    consentSources: createConsentSources(db),
    datasets: createDatasets(db, now),
    images: createImages(db, now),
    imageCorrections: createImageCorrections(db, now),
    consentDocuments: createConsentDocuments(db, now),
    sites: createSites(db, now),
    invitations: createInvitations(db, now),
    runs: createRuns(db, now),
    rounds: createRounds(db, now),
    roundSites: createRoundSites(db, now),
    roundMembers: createRoundMembers(db, now),
    updateArrivals: createUpdateArrivals(db, now),
    evaluations: createEvaluations(db, now),
    withdrawalNotices: createWithdrawalNotices(db, now),
    cohorts: createCohorts(db, now),
    adapters: createAdapters(db, now),
    siteMemory: createSiteMemory(db, now),
    sitePolicies: createSitePolicies(db, now),
    contracts: createContracts(db, now),
    decisions: createDecisions(db, now),
    users: createUsers(db, now),
    proposals: createProposals(db, now),
    outbox: createOutbox(db, now),
    position: createPosition(db, now),
    peers: createPeers(db, now),
    audit,
    blobReferences: createBlobReferences(db),
    modelVersions: createModelVersions(db, now),
    evaluationCohorts: createEvaluationCohorts(db, now),
    keptCrops: createKeptCrops(db, now),
    erasures: createErasures(db, now),
    close: () => db.close(),
  };
}

type Tables = ReturnType<typeof createTables>;

/** What of each table only reads. */
interface Readers {
  settings: 'get';
  clock: 'latest' | 'fault';
  subjects: 'refOf' | 'erasedAt' | 'byId' | 'byPseudonym' | 'list' | 'all' | 'pseudonyms' | 'count';
  consentEvents: 'ofSubject' | 'ofPurpose' | 'all' | 'findBreak';
  consentSources: 'byKey' | 'all';
  datasets: 'list';
  images: 'get' | 'list' | 'bySha' | 'counts' | 'hashes' | 'crops' | 'labelsOfOthers' | 'sourceNames';
  imageCorrections: 'ofSubject' | 'ofAct' | 'touch' | 'sinceFrozen';
  consentDocuments: 'get' | 'ofSubject';
  sites: 'get' | 'list';
  invitations: 'byId' | 'list';
  runs: 'get' | 'list' | 'unfinished' | 'current';
  rounds: 'get' | 'listOfRun';
  roundSites: 'get' | 'list' | 'listOfRun';
  roundMembers: 'of';
  updateArrivals: 'listOfRun' | 'ofSite' | 'isFrom';
  evaluations: 'ofState' | 'ofRun';
  withdrawalNotices: 'list' | 'ofSite' | 'inModels' | 'untold' | 'contributions' | 'contributionsOf';
  cohorts: 'get' | 'byRun' | 'bySubject' | 'byImage' | 'members' | 'subjects';
  adapters: 'get' | 'list' | 'isGlobalState';
  siteMemory: 'newestBefore' | 'list';
  sitePolicies: 'newest' | 'list';
  contracts: 'get' | 'pinsOf' | 'bySha';
  decisions: 'get' | 'newestOn' | 'newestOfRun' | 'standing' | 'list' | 'runsCoveredBy';
  users: 'get' | 'list';
  proposals: 'get' | 'pending' | 'pendingOf';
  outbox: 'pending' | 'isPending';
  position: 'get' | 'contains';
  peers: 'epoch' | 'current' | 'hasRoom' | 'statements' | 'trails';
  audit: 'page' | 'raw' | 'about' | 'newestOf' | 'allOf' | 'verify';
  blobReferences: 'heldAmong' | 'allHeld' | 'releasedBy' | 'isOfOthers';
  modelVersions: 'list';
  evaluationCohorts: 'ofRun' | 'bySubject' | 'subjects';
  keptCrops: 'ofSubject' | 'list';
  erasures: 'list' | 'unfinished' | 'underWay' | 'newestOf';
}

type Reading<T extends keyof Readers> = Pick<Tables[T], Readers[T] & keyof Tables[T]>;

/** The readers of a store. The split is the compiler's alone: a writer that got through would meet SQLite's refusal. */
export type ReadOnlyStore = { readonly [T in keyof Readers]: Reading<T> } & Pick<Tables, 'close'> & {
    /** The store's clock, as ISO 8601 UTC text. */
    now(): string;
  };

export interface Store extends Readonly<Tables> {
  /** The store's clock, as ISO 8601 UTC text. */
  now(): string;
  /**
   * Runs `body` in one immediate transaction: all of it is kept or nothing. Inside another call it becomes a
   * savepoint, so functions that need a transaction can call each other.
   * @throws TypeError when `body` gives a promise: nothing may be awaited inside
   */
  transaction<T>(body: () => T): T;
  /** {@link eraseRows}; in the transaction in which the erasure is `deleting`. */
  eraseRows(subjectId: number, also?: () => Record<string, number>): ErasedRows;
  /**
   * Writes the database anew without its free pages, and empties its log: what was deleted is in neither afterwards.
   * @returns false when somebody who reads kept the log from being emptied; try again
   */
  forgetDeleted(): boolean;
  /**
   * Runs what must not fail for want of room, such as a withdrawal, in a transaction or more. On a full disk whoever listens
   * to {@link onShortage} hears of it first, then the reserve is given away and it is run again.
   */
  withReserve<T>(work: () => T): T;
  /**
   * Hears `true` when such work has met a full disk, before it is tried again, and `false` once it is done and there is room for the
   * next. @returns how to stop
   */
  onShortage(listener: (isShort: boolean) => void): () => void;
  /** Call it at the start and from time to time: whoever takes room waits until a withdrawal has some. */
  lookForRoom(): void;
  /** Writes down outside of the database how far the audit trail has come, where it was opened with an anchor. */
  anchor(): void;
  /** The second half of it alone, for a change of few rows: deleting overwrites. */
  emptyLog(): boolean;
  /** {@link Sqlite.copyTo}; for a backup. @throws AppError DISK_FULL and others, and what `onPages` throws */
  copyTo(file: string, onPages: (left: number, all: number) => void): Promise<void>;
}

/**
 * A database whose file was replaced or removed meanwhile, as by a copy put back while Anneal runs, takes everything and loses it
 * when the process ends. Nothing that counts is recorded in it: each row of the trail asks first.
 * @returns what throws AppError DATABASE_MISSING then
 */
function placeOf(file: string): () => void {
  const found = () => statSync(file, { bigint: true, throwIfNoEntry: false });
  const opened = found();
  return () => {
    const now = found();
    if (now?.ino === opened?.ino && now?.dev === opened?.dev) return;
    throw new AppError(
      'DATABASE_MISSING',
      `The database of this data folder was ${now === undefined ? 'removed' : 'replaced'} while Anneal runs: nothing is recorded any more.`,
      { action: 'Stop Anneal, restore the data folder from a backup, and start it again.' },
    );
  };
}

/** A later checkpoint does it where somebody reads now. */
const emptyLog = (db: Sqlite): boolean => db.pragma('wal_checkpoint(TRUNCATE)') === 0;

/** @throws AppError DATABASE_BEHIND | FILE_DAMAGED; the database is closed then */
function checkedAnchor(db: Sqlite, file: string): void {
  try {
    checkAnchor(db, file);
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/**
 * What is anchored is in the database file itself: of the log a damaged byte may take the end. On a full disk, or while somebody
 * reads, it stays as it was; what was recorded stands all the same, and the next change of a consent tries again.
 */
function keepAnchor(db: Sqlite, file: string): void {
  try {
    emptyLog(db);
    const head = headOf(db);
    if (head !== null) writeAnchor(file, head);
  } catch {
    // Nothing that was recorded may be reported as refused.
  }
}

/** Without `isSafe` there is room once something could be written. */
type Room = Pick<Reserve, 'release'> & Partial<Pick<Reserve, 'isSafe'>>;

function withRoom(
  db: Sqlite,
  reserve: Room | undefined,
): Pick<Store, 'withReserve' | 'onShortage' | 'lookForRoom'> {
  const listeners = new Set<(isShort: boolean) => void>();
  let isShort = false;
  /** The last of such work found no room at all. */
  let isUnwritten = false;
  const tell = (short: boolean) => {
    if (isShort === short) return;
    isShort = short;
    for (const listener of listeners) listener(short);
  };
  // Training that went on would take the room that was given away, and the next withdrawal would find none.
  const lookForRoom = () => {
    if (!isUnwritten) tell(reserve?.isSafe === false);
  };
  return {
    lookForRoom,
    withReserve(work) {
      // Inside a transaction it is the outermost call that can begin again.
      if (db.inTransaction) return work();
      let result: ReturnType<typeof work>;
      try {
        result = work();
      } catch (thrown) {
        if (toAppError(thrown).code !== 'DISK_FULL') throw thrown;
        tell(true);
        isUnwritten = true;
        if (reserve?.release() !== true) throw thrown;
        result = work();
      }
      isUnwritten = false;
      if (isShort) lookForRoom();
      return result;
    },
    onShortage(listener) {
      listeners.add(listener);
      if (isShort) listener(true);
      return () => void listeners.delete(listener);
    },
  };
}

export interface StoreOptions {
  /** Clock for the times that the store writes; for tests. */
  now?: () => Date;
  /** What a commit outlives; a power cut when absent. */
  durability?: Durability;
  /** How long a statement waits for another program's lock; 5 s when absent. The process stands still meanwhile. */
  busyTimeoutMs?: number;
  /** File of the anchor (anchor.ts); none when absent. */
  anchorFile?: string;
  reserve?: Room;
}

/**
 * Opens or makes the database, and migrates an older one. Blocks while another process writes, at most 5 s.
 * @throws AppError DATABASE_NEWER (the file is not touched) | DATABASE_DAMAGED | DATABASE_BEHIND | FILE_DAMAGED |
 *   DISK_FULL | DATA_FOLDER_UNUSABLE
 */
export function openStore(file: string, options: StoreOptions = {}): Store {
  const { anchorFile, reserve } = options;
  const db = openDatabase(file, undefined, options.durability);
  if (anchorFile !== undefined) checkedAnchor(db, anchorFile);
  // Opening may wait longer: migrations do.
  if (options.busyTimeoutMs !== undefined) db.pragma(`busy_timeout = ${options.busyTimeoutMs}`);
  const clock = options.now ?? (() => new Date());
  const now = () => clock().toISOString();
  const anchor = () => {
    if (anchorFile !== undefined) keepAnchor(db, anchorFile);
  };
  return {
    ...createTables(db, now, {
      onConsent: () => db.afterCommit('anchor', anchor),
      requireInPlace: placeOf(file),
    }),
    now,
    transaction: (body) => db.transaction(body),
    ...withRoom(db, reserve),
    anchor,
    eraseRows: (subjectId, also) => eraseRows(db, subjectId, also),
    forgetDeleted() {
      db.exec('VACUUM');
      return emptyLog(db);
    },
    emptyLog: () => emptyLog(db),
    copyTo: (copy, onPages) => db.copyTo(copy, onPages),
  };
}

/**
 * Opens an existing database of this version without writers, beside the process that writes it.
 * @throws AppError NOT_FOUND | DATABASE_NEWER | DATABASE_DAMAGED | DATA_FOLDER_UNUSABLE (written by an older Anneal)
 */
export function openReadOnlyStore(file: string): ReadOnlyStore {
  const now = () => new Date().toISOString();
  return { ...createTables(openDatabaseReadOnly(file), now, { onConsent: () => {} }), now };
}
