/** What the router needs from the agent's composition root. */
import type { CoordinatorNode } from '../coordinator/coordinator.ts';
import type { Device } from '../engine/engine.ts';
import type { ExportOptions } from '../models/adapter-files.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { LeakTests } from '../policy/leak-test-service.ts';
import type { Rights } from '../rights/rights.ts';
import type { SiteNode } from '../site/site.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Store } from '../store/store.ts';
import type { AgentEvent, AgentStatus, ImportReport } from './contract.ts';

export interface ImportRequest {
  imagesFolder: string;
  labelsFile: string;
  alreadyCropped: boolean;
}

/** `runId`: whose adapter is meant, for when several runs made the same file. */
export type AdapterExport = ExportOptions & { runId?: string | undefined };

export interface AgentContext {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly catalogue: Catalogue;
  readonly rights: Rights;
  /** How much of an image a base model's embedding gives away; measured at the first question. */
  readonly leakOf: LeakTests['leakOf'];
  /** When this site joined its federation. */
  readonly joinedAt: string | null;
  status(): AgentStatus;
  /** Returns unsubscribe. */
  onEvent(listener: (event: AgentEvent) => void): () => void;
  emit(event: AgentEvent): void;
  becomeCoordinator(input: {
    federation: string;
    port?: number | undefined;
    hosts?: string[] | undefined;
  }): Promise<void>;
  joinAsSite(input: { invitation: string; name?: string | undefined }): Promise<void>;
  startDemo(): Promise<void>;
  devices(): Promise<Device[]>;
  importImages(request: ImportRequest): Promise<ImportReport>;
  /** `withdrawn`: see `AdapterRow`; then a note lies beside the files. */
  exportAdapter(
    sha256: string,
    folder: string,
    options?: AdapterExport,
  ): Promise<{ folder: string; withdrawn: boolean }>;
  /** Call after a decision about a run, or another policy, is in the store. */
  siteDecided(): void;
  /** Null until this installation joined a federation. */
  readonly site: SiteNode | null;
  /** Null unless this installation is a coordinator. */
  readonly coordinator: CoordinatorNode | null;
}
