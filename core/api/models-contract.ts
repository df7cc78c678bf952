/** What the API gives about base models. */
import type { Alignment } from '../config/alignment.ts';
import type { LeakReport } from '../config/leak-report.ts';
import type { Normalisation, Preprocessing } from '../config/preprocessing.ts';
import type { ImportFinding } from '../models/inspect-model.ts';
import type { Adaptable } from '../models/installed-models.ts';
import type { ImportOptions } from '../models/model-formats.ts';
import type { ImportProgress } from '../policy/leak-test-service.ts';
import type { ErrorReport } from '../shared/errors.ts';
import type { RunStatus } from '../store/records.ts';

export type { FoundModel, ImportFinding } from '../models/inspect-model.ts';
export type { ModelQuestion } from '../models/open-question.ts';
export type { Adaptable, ImportOptions };

export interface RunOnModel {
  id: string;
  title: string;
  status: RunStatus;
}

export interface ModelRow {
  id: string;
  format: 'built-in' | 'vit' | 'onnx';
  sha256: string;
  licence: string;
  /** Side of the square input in pixels. */
  inputSize: number;
  embeddingSize: number;
  /** Null while the layers of what an earlier version imported are being counted. */
  adaptable: Adaptable | null;
  alignment: { template: Alignment; source: 'built-in' | 'given' | 'assumed' };
  pixels: {
    normalisation: Normalisation | null;
    preprocessing: Preprocessing | null;
    /** `folder`: its own files; `earlier`: an earlier version of Anneal imported it, which did not write it down. */
    source: 'built-in' | 'given' | 'recognised' | 'folder' | 'earlier';
  };
  leak: LeakReport | null;
  importedAt: string | null;
  sizeBytes: number | null;
  /** Newest first. */
  runs: RunOnModel[];
  /** Why it stays, in one sentence; null when it may be removed. */
  needed: string | null;
}

export interface ModelImport {
  /** What it will be called, where that is known. */
  id: string | null;
  progress: ImportProgress | null;
}

export interface ModelsView {
  /** The default first. */
  models: ModelRow[];
  damaged: { id: string; problem: ErrorReport }[];
  importing: ModelImport | null;
  /** Why the last import installed nothing; null after one that did, or that somebody stopped. */
  failed: ErrorReport | null;
  /** What the run that asks this site needs and is not here. */
  wanted: WantedModel | null;
}

export interface WantedModel {
  /** As the coordinator calls it. */
  name: string;
  sha256: string;
}

export interface ModelInspection extends ImportFinding {
  /** A model of that name is here already, another one than this. */
  idTaken: boolean;
  /** The very same model is here under this name. */
  installedAs: string | null;
  /** Whether it is what a run waits for; null when none waits or it can't be said yet. */
  isWanted: boolean | null;
}

/** What an agent does with base models. */
export interface Models {
  view(): Promise<ModelsView>;
  /** @throws AppError why it cannot be imported, CANCELLED after an abort, RUN_CONFLICT while too many are looked at */
  inspect(path: string, options: ImportOptions, signal?: AbortSignal): Promise<ModelInspection>;
  /**
   * Measures how much an embedding gives away, too: minutes for a large network.
   * @throws AppError as `importModel`; MODEL_LEAKS, MODEL_UNSUITABLE, CANCELLED; RUN_CONFLICT while another one is imported
   */
  import(path: string, options: ImportOptions, actor: string): Promise<{ id: string; isNew: boolean }>;
  /** False when none is being imported. */
  cancel(): boolean;
  /**
   * @param sha256 of what the person saw; null for a damaged one
   * @throws AppError RUN_CONFLICT when something needs it or it is another one now; NOT_FOUND; CONFIG_INVALID when it is built in
   */
  remove(model: { id: string; sha256: string | null }, actor: string): Promise<void>;
  close(): Promise<void>;
}
