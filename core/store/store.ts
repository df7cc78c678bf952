/** The SQLite store of one Anneal: one file, one writer process. */
import { createAdapters, createAdaptersReader } from './adapters.ts';
import { createAudit, createAuditReader } from './audit.ts';
import { createCohorts, createCohortsReader } from './cohorts.ts';
import { createConsentEvents, createConsentEventsReader } from './consent-events.ts';
import { createDatasets, createDatasetsReader } from './datasets.ts';
import { createEvaluations, createEvaluationsReader } from './evaluations.ts';
import { createImages, createImagesReader } from './images.ts';
import { createInvitations, createInvitationsReader } from './invitations.ts';
import { createInbox, createOutbox, createOutboxReader } from './messages.ts';
import { type Durability, openDatabase, openDatabaseReadOnly } from './open-database.ts';
import { type BlobReferences, createBlobReferences } from './retention.ts';
import { createRoundSites, createRoundSitesReader } from './round-sites.ts';
import { createRounds, createRoundsReader } from './rounds.ts';
import { createRuns, createRunsReader } from './runs.ts';
import { createSettings, createSettingsReader } from './settings.ts';
import { createSiteMemory, createSiteMemoryReader } from './site-memory.ts';
import { createSites, createSitesReader } from './sites.ts';
import type { Sqlite } from './sqlite.ts';
import { createSubjects, createSubjectsReader } from './subjects.ts';
import type * as tables from './tables.ts';
import { createUpdateArrivals, createUpdateArrivalsReader } from './update-arrivals.ts';

export interface ReadOnlyStore {
  readonly settings: tables.SettingsReader;
  readonly subjects: tables.SubjectsReader;
  readonly consentEvents: tables.ConsentEventsReader;
  readonly datasets: tables.DatasetsReader;
  readonly images: tables.ImagesReader;
  readonly sites: tables.SitesReader;
  readonly invitations: tables.InvitationsReader;
  readonly runs: tables.RunsReader;
  readonly rounds: tables.RoundsReader;
  readonly roundSites: tables.RoundSitesReader;
  readonly updateArrivals: tables.UpdateArrivalsReader;
  readonly evaluations: tables.EvaluationsReader;
  readonly cohorts: tables.CohortsReader;
  readonly adapters: tables.AdaptersReader;
  readonly siteMemory: tables.SiteMemoryReader;
  readonly outbox: tables.OutboxReader;
  readonly audit: tables.AuditReader;
  readonly blobReferences: BlobReferences;
  close(): void;
}

export interface Store extends ReadOnlyStore {
  readonly settings: tables.Settings;
  readonly subjects: tables.Subjects;
  readonly consentEvents: tables.ConsentEvents;
  readonly datasets: tables.Datasets;
  readonly images: tables.Images;
  readonly sites: tables.Sites;
  readonly invitations: tables.Invitations;
  readonly runs: tables.Runs;
  readonly rounds: tables.Rounds;
  readonly roundSites: tables.RoundSites;
  readonly updateArrivals: tables.UpdateArrivals;
  readonly evaluations: tables.Evaluations;
  readonly cohorts: tables.Cohorts;
  readonly adapters: tables.Adapters;
  readonly siteMemory: tables.SiteMemory;
  readonly outbox: tables.Outbox;
  readonly inbox: tables.Inbox;
  readonly audit: tables.Audit;
  /** The store's clock, as ISO 8601 UTC text. */
  now(): string;
  /**
   * Runs `body` in one immediate transaction: all of it is kept or nothing. Inside another call it becomes a
   * savepoint, so functions that need a transaction can call each other.
   * @throws TypeError when `body` gives a promise: nothing may be awaited inside
   */
  transaction<T>(body: () => T): T;
}

export interface StoreOptions {
  /** Clock for the times that the store writes; for tests. */
  now?: () => Date;
  /** What a commit outlives; a power cut when absent. */
  durability?: Durability;
}

/**
 * Opens or makes the database, and migrates an older one. Blocks while another process writes, at most 5 s.
 * @throws AppError DATABASE_NEWER (the file is not touched) | DATABASE_DAMAGED | DISK_FULL | DATA_FOLDER_UNUSABLE
 */
export function openStore(file: string, options: StoreOptions = {}): Store {
  const db = openDatabase(file, undefined, options.durability);
  const clock = options.now ?? (() => new Date());
  const now = () => clock().toISOString();
  return {
    settings: createSettings(db),
    subjects: createSubjects(db, now),
    consentEvents: createConsentEvents(db, now),
    datasets: createDatasets(db, now),
    images: createImages(db, now),
    sites: createSites(db, now),
    invitations: createInvitations(db, now),
    runs: createRuns(db, now),
    rounds: createRounds(db, now),
    roundSites: createRoundSites(db, now),
    updateArrivals: createUpdateArrivals(db, now),
    evaluations: createEvaluations(db, now),
    cohorts: createCohorts(db, now),
    adapters: createAdapters(db, now),
    siteMemory: createSiteMemory(db, now),
    outbox: createOutbox(db, now),
    inbox: createInbox(db, now),
    audit: createAudit(db, now),
    blobReferences: createBlobReferences(db),
    now,
    transaction: (body) => db.transaction(body),
    close: () => db.close(),
  };
}

/**
 * Opens an existing database of this version without writers, beside the process that writes it.
 * @throws AppError NOT_FOUND | DATABASE_NEWER | DATABASE_DAMAGED | DATA_FOLDER_UNUSABLE (written by an older Anneal)
 */
export function openReadOnlyStore(file: string): ReadOnlyStore {
  return createReaders(openDatabaseReadOnly(file));
}

function createReaders(db: Sqlite): ReadOnlyStore {
  return {
    settings: createSettingsReader(db),
    subjects: createSubjectsReader(db),
    consentEvents: createConsentEventsReader(db),
    datasets: createDatasetsReader(db),
    images: createImagesReader(db),
    sites: createSitesReader(db),
    invitations: createInvitationsReader(db),
    runs: createRunsReader(db),
    rounds: createRoundsReader(db),
    roundSites: createRoundSitesReader(db),
    updateArrivals: createUpdateArrivalsReader(db),
    evaluations: createEvaluationsReader(db),
    cohorts: createCohortsReader(db),
    adapters: createAdaptersReader(db),
    siteMemory: createSiteMemoryReader(db),
    outbox: createOutboxReader(db),
    audit: createAuditReader(db),
    blobReferences: createBlobReferences(db),
    close: () => db.close(),
  };
}
