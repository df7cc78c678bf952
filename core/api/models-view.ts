/** The base models of an installation with all that a person wants to know of them, and what needs them. */
import { originalAlignment } from '../config/alignment.ts';
import { runConfigSchema } from '../config/run-config.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { adaptableOf } from '../models/inspect-model.ts';
import { findInstalledModel, listModelFolders, type ModelManifest } from '../models/installed-models.ts';
import { standingApprovalSchema } from '../policy/standing-approval.ts';
import { type ErrorReport, toAppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { ManifestBody } from '../transport/messages.ts';
import type { ModelRow, RunOnModel, WantedModel } from './models-contract.ts';

export interface ModelsSource {
  readonly store: ReadOnlyStore;
  readonly catalogue: Catalogue;
  readonly modelsFolder: string;
  /** Of the run that asks this site now; null at a coordinator, and while none asks. */
  manifest(): ManifestBody | null;
}

/** Those listed with a model. */
const mostRuns = 20;
const baseOfRun = runConfigSchema.pick({ baseSha256: true, title: true });

interface Use extends RunOnModel {
  sha256: string;
  isOver: boolean;
}

function usesIn(store: ReadOnlyStore): Use[] {
  return store.runs.list().flatMap(({ id, config, status, finishedAt }) => {
    const base = baseOfRun.safeParse(config).data;
    return base === undefined
      ? []
      : [{ id, title: base.title, status, sha256: base.baseSha256, isOver: finishedAt !== null }];
  });
}

const called = ({ title, id }: RunOnModel) => `the run "${title === '' ? id : title}"`;

/**
 * Why a base model has to stay, in one sentence; null when nothing needs it. The same network under a second name needs
 * but one of them, which is for the caller to know.
 */
export function neededBy(
  { store, manifest }: Pick<ModelsSource, 'store' | 'manifest'>,
  sha256: string,
): string | null {
  const uses = usesIn(store).filter((use) => use.sha256 === sha256);
  const open = uses.find(({ isOver }) => !isOver);
  if (open !== undefined) return `${called(open)} is not over`;
  if (manifest()?.config.baseSha256 === sha256) return 'a run that asks this site uses it';
  const withAdapters = new Set(store.adapters.list().map(({ runId }) => runId));
  const trained = uses.find(({ id }) => withAdapters.has(id));
  if (trained !== undefined) return `adapters of ${called(trained)} mean nothing without it`;
  const isGranted = store.decisions.standing().some(({ standing }) => {
    const approval = standingApprovalSchema.safeParse(standing).data;
    return approval?.granted.baseModel.sha256 === sha256;
  });
  return isGranted ? 'an approval within limits names it' : null;
}

/** What the run that asks this site needs and is not here. */
export async function wantedModel({ catalogue, manifest }: ModelsSource): Promise<WantedModel | null> {
  const { baseId, baseSha256 } = manifest()?.config ?? {};
  if (baseId === undefined || baseSha256 === undefined) return null;
  const isHere = await catalogue.resolve(baseId, baseSha256).then(
    () => true,
    () => false,
  );
  return isHere ? null : { name: baseId, sha256: baseSha256 };
}

export async function listModels(
  source: ModelsSource,
): Promise<{ models: ModelRow[]; damaged: { id: string; problem: ErrorReport }[] }> {
  const { store, catalogue, modelsFolder } = source;
  const rows: Omit<ModelRow, 'runs' | 'needed'>[] = [];
  const damaged: { id: string; problem: ErrorReport }[] = [];
  for (const { id, format } of await catalogue.list())
    if (format === 'built-in') rows.push(await builtInRow(catalogue, id));
  for (const id of await listModelFolders(modelsFolder)) {
    try {
      const manifest = await findInstalledModel(modelsFolder, id);
      if (manifest !== null) rows.push({ ...importedRow(manifest), leak: await catalogue.keptLeak(id) });
    } catch (thrown) {
      damaged.push({ id, problem: toAppError(thrown).toReport() });
    }
  }
  const uses = usesIn(store);
  const models = rows.map((row) => {
    const isOnly = rows.filter(({ sha256 }) => sha256 === row.sha256).length === 1;
    const own = uses.filter(({ sha256 }) => sha256 === row.sha256);
    return {
      ...row,
      runs: own.slice(0, mostRuns).map((use) => pick(use, 'id', 'title', 'status')),
      needed:
        row.format === 'built-in' ? 'it comes with Anneal' : isOnly ? neededBy(source, row.sha256) : null,
    };
  });
  return { models, damaged };
}

async function builtInRow(catalogue: Catalogue, id: string): Promise<Omit<ModelRow, 'runs' | 'needed'>> {
  const base = await catalogue.load(id);
  return {
    ...pick(base, 'sha256', 'licence', 'inputSize', 'embeddingSize'),
    ...{ id, format: 'built-in', importedAt: null, sizeBytes: null },
    adaptable: adaptableOf(base),
    alignment: { template: base.alignment, source: 'built-in' },
    pixels: { normalisation: base.normalisation ?? null, preprocessing: null, source: 'built-in' },
    leak: await catalogue.keptLeak(id),
  };
}

function importedRow(manifest: ModelManifest): Omit<ModelRow, 'runs' | 'needed' | 'leak'> {
  const { alignment = originalAlignment, alignmentAssumed = true, files, preprocessing = null } = manifest;
  return {
    ...pick(manifest, 'id', 'format', 'sha256', 'licence', 'inputSize', 'embeddingSize', 'importedAt'),
    adaptable: manifest.adaptable ?? null,
    alignment: { template: alignment, source: alignmentAssumed ? 'assumed' : 'given' },
    pixels: { normalisation: manifest.normalisation, preprocessing, source: pixelSource(manifest) },
    sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  };
}

function pixelSource({ format, options, preprocessing }: ModelManifest): ModelRow['pixels']['source'] {
  if (preprocessing !== undefined) return preprocessing.source;
  if (options['mean'] !== undefined) return 'given';
  return format === 'vit' ? 'folder' : 'earlier';
}
