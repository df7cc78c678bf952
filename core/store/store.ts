/** The SQLite store of one Anneal: one file, one writer process. */
import type * as tables from './tables.ts';

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
  readonly evaluations: tables.EvaluationsReader;
  readonly cohorts: tables.CohortsReader;
  readonly adapters: tables.AdaptersReader;
  readonly outbox: tables.OutboxReader;
  readonly audit: tables.AuditReader;
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
  readonly evaluations: tables.Evaluations;
  readonly cohorts: tables.Cohorts;
  readonly adapters: tables.Adapters;
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
}

/**
 * Opens or makes the database, and migrates an older one.
 * @throws AppError DATABASE_NEWER (the file is not touched) | DATABASE_DAMAGED | DISK_FULL | DATA_FOLDER_UNUSABLE
 */
export declare function openStore(file: string, options?: StoreOptions): Store;

/** Opens an existing database of this version without writers. @throws as openStore, and NOT_FOUND */
export declare function openReadOnlyStore(file: string): ReadOnlyStore;
