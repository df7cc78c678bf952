/** What the router needs from the agent's composition root. */
import type { Backups } from '../backup/backups.ts';
import type { CoordinatorNode } from '../coordinator/coordinator.ts';
import type { ImportRequest } from '../data/import-request.ts';
import type { Device } from '../engine/engine.ts';
import type { WrittenBundle } from '../evidence/write-bundle.ts';
import type { ExportOptions } from '../models/adapter-files.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { People } from '../people/people.ts';
import type { LeakTests } from '../policy/leak-test-service.ts';
import type { Rights } from '../rights/rights.ts';
import type { SiteNode } from '../site/site.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Restored } from '../store/restored.ts';
import type { Store } from '../store/store.ts';
import type { AgentEvent, AgentStatus, ImportPreview, ImportReport } from './contract.ts';
import type { Models } from './models-contract.ts';

/** `runId`: whose adapter is meant, for when several runs made the same file. */
export type AdapterExport = ExportOptions & { runId?: string | undefined };

export interface AgentContext {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly people: People;
  readonly catalogue: Catalogue;
  readonly rights: Rights;
  readonly backups: Backups;
  readonly models: Models;
  /** How much of an image a base model's embedding gives away; measured at the first question. */
  readonly leakOf: LeakTests['leakOf'];
  /** When this site joined its federation. */
  readonly joinedAt: string | null;
  status(): AgentStatus;
  /** Returns unsubscribe. */
  onEvent(listener: (event: AgentEvent) => void): () => void;
  emit(event: AgentEvent): void;
  /** @param actor here and below: who asks for it, as the audit trail names them */
  becomeCoordinator(
    input: { federation: string; port?: number | undefined; hosts?: string[] | undefined },
    actor: string,
  ): Promise<void>;
  joinAsSite(input: { invitation: string; name?: string | undefined }, actor: string): Promise<void>;
  startDemo(): Promise<void>;
  devices(): Promise<Device[]>;
  importImages(request: ImportRequest, actor: string): Promise<ImportReport>;
  previewImport(request: Omit<ImportRequest, 'alreadyCropped'>): Promise<ImportPreview>;
  /** `withdrawn`: see `AdapterRow`; then a note lies beside the files. */
  exportAdapter(
    sha256: string,
    folder: string,
    options: AdapterExport,
    actor: string,
  ): Promise<{ folder: string; withdrawn: boolean }>;
  /** @param target a new file, or a folder that is there */
  exportEvidence(target: string, actor: string): Promise<WrittenBundle>;
  /** A person has compared the consents after the store went back in time. @returns what it was about; null: nothing */
  confirmRestore(actor: string): Restored | null;
  /** Call after a decision about a run, or another policy, is in the store. */
  siteDecided(): void;
  /** Null until this installation joined a federation. */
  readonly site: SiteNode | null;
  /** Null unless this installation is a coordinator. */
  readonly coordinator: CoordinatorNode | null;
}
