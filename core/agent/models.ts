/**
 * Base models of a running agent: looked at, imported and removed. Networks are opened in processes of their own; one import at a
 * time.
 */
import { randomUUID } from 'node:crypto';
import type { AgentEvent } from '../api/contract.ts';
import type { ModelImport, ModelInspection, Models } from '../api/models-contract.ts';
import { listModels, type ModelsSource, neededBy, wantedModel } from '../api/models-view.ts';
import { findInstalledModel, keepWithInstalled } from '../models/installed-models.ts';
import type { ImportOptions } from '../models/model-formats.ts';
import type { ImportProgress } from '../policy/leak-test-service.ts';
import { runModelWork } from '../policy/model-work-run.ts';
import { AppError, type ErrorReport, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Store } from '../store/store.ts';

export interface ModelsOptions extends ModelsSource {
  readonly store: Store;
  readonly logger: Logger;
  emit(event: AgentEvent): void;
}

/** Files that are looked at at the same time: each takes the memory of a network. */
const mostInspections = 3;
/** A file that is not open after so long is never going to be. */
const inspectionLimitMs = 10 * 60_000;
const emitEveryMs = 250;

export function createModels(options: ModelsOptions): Models {
  const { store, catalogue, modelsFolder, logger } = options;
  const closing = new AbortController();
  let inspections = 0;
  let underWay: (ModelImport & { abort: AbortController; done: Promise<unknown> }) | null = null;
  let failed: ErrorReport | null = null;
  /** Those whose layers were counted, or could not be: nobody asks a second time. */
  const counted = new Set<string>();
  let counting: Promise<unknown> = Promise.resolve();
  const changed = () => options.emit({ type: 'changed', what: 'models' });

  async function inspect(path: string, said: ImportOptions, signal?: AbortSignal): Promise<ModelInspection> {
    if (inspections >= mostInspections)
      throw new AppError('RUN_CONFLICT', 'Other networks are being looked at.', {
        action: 'Wait a moment, then choose the file again.',
      });
    inspections++;
    try {
      const signals = [closing.signal, ...(signal === undefined ? [] : [signal])];
      const order = { type: 'inspect', path, options: said } as const;
      const work = { signal: AbortSignal.any(signals), logger, limitMs: inspectionLimitMs };
      const { finding } = await runModelWork(order, work);
      const sha256 = finding.model?.sha256 ?? null;
      const here = await catalogue.list();
      const same = here.find((entry) => sha256 !== null && entry.sha256 === sha256);
      const wanted = await wantedModel(options);
      return {
        ...finding,
        idTaken: here.some(({ id }) => id === finding.id) && same?.id !== finding.id,
        installedAs: same?.id ?? null,
        isWanted: sha256 === null || wanted === null ? null : wanted.sha256 === sha256,
      };
    } finally {
      inspections--;
    }
  }

  async function importModel(
    path: string,
    said: ImportOptions,
    actor: string,
  ): Promise<{ id: string; isNew: boolean }> {
    if (underWay !== null)
      throw new AppError('RUN_CONFLICT', 'Another network is being imported.', {
        action: 'Wait until it is finished, or cancel it.',
      });
    const abort = new AbortController();
    failed = null;
    const work = install(path, said, actor, AbortSignal.any([abort.signal, closing.signal]));
    underWay = { id: said.id ?? null, progress: null, abort, done: work.catch(() => {}) };
    changed();
    try {
      return await work;
    } catch (thrown) {
      const error = toAppError(thrown);
      if (error.code === 'CANCELLED')
        throw new AppError('CANCELLED', 'The import was stopped; nothing was installed.');
      failed = error.toReport();
      throw error;
    } finally {
      underWay = null;
      changed();
    }
  }

  async function install(path: string, said: ImportOptions, actor: string, signal: AbortSignal) {
    const order = { type: 'import', path, options: said, modelsFolder, workId: randomUUID() } as const;
    const { manifest, isNew } = await runModelWork(order, { signal, logger, onProgress: tellProgress() });
    const { id, sha256, format } = manifest;
    if (isNew) {
      store.audit.append({ actor, action: 'model-imported', details: { name: id, model: sha256, format } });
      store.anchor();
      options.emit({ type: 'changed', what: 'audit' });
      logger.info({ event: 'models.imported', sha256 }, 'a base model was imported');
    }
    return { id, isNew };
  }

  function tellProgress() {
    let told = { step: '', atMs: 0 };
    return (progress: ImportProgress) => {
      if (underWay === null) return;
      underWay.progress = progress;
      const atMs = performance.now();
      if (progress.step === told.step && atMs - told.atMs < emitEveryMs) return;
      told = { step: progress.step, atMs };
      options.emit({ type: 'model-import', progress });
    };
  }

  async function remove({ id, sha256 }: { id: string; sha256: string | null }, actor: string): Promise<void> {
    const found = await findInstalledModel(modelsFolder, id).catch(() => null);
    if ((found?.sha256 ?? null) !== sha256 && !(await isBuiltIn(id)))
      throw new AppError('RUN_CONFLICT', `The network "${id}" is not the one any more that was shown.`, {
        action: 'Look at the list again.',
      });
    if (found !== null) {
      const others = (await catalogue.list()).some(
        (entry) => entry.id !== id && entry.sha256 === found.sha256,
      );
      const needed = others ? null : neededBy(options, found.sha256);
      if (needed !== null)
        throw new AppError('RUN_CONFLICT', `The network "${id}" stays: ${needed}.`, {
          action: 'Keep it as long as anything here needs it.',
        });
    }
    await catalogue.remove(id);
    store.audit.append({ actor, action: 'model-removed', details: { name: id, model: sha256 } });
    store.anchor();
    options.emit({ type: 'changed', what: 'audit' });
    changed();
  }

  const isBuiltIn = async (id: string) =>
    (await catalogue.list()).some((entry) => entry.id === id && entry.format === 'built-in');

  /** What an earlier version imported: its layers are counted once, one network after the other. */
  function count(id: string, sha256: string): void {
    if (counted.has(`${id} ${sha256}`)) return;
    counted.add(`${id} ${sha256}`);
    counting = counting.then(async () => {
      try {
        const order = { type: 'count', modelsFolder, id } as const;
        const work = { signal: closing.signal, logger, limitMs: inspectionLimitMs };
        const { adaptable } = await runModelWork(order, work);
        await keepWithInstalled(modelsFolder, { id, sha256 }, { adaptable });
        changed();
      } catch (error) {
        if (!closing.signal.aborted)
          logger.warn({ error }, 'the layers of a base model could not be counted');
      }
    });
  }

  return {
    async view() {
      const { models, damaged } = await listModels(options);
      for (const { id, sha256, adaptable } of models) if (adaptable === null) count(id, sha256);
      const importing = underWay === null ? null : { id: underWay.id, progress: underWay.progress };
      return { models, damaged, importing, failed, wanted: await wantedModel(options) };
    },
    inspect,
    import: importModel,
    cancel() {
      underWay?.abort.abort();
      return underWay !== null;
    },
    remove,
    async close() {
      closing.abort();
      await underWay?.done;
      await counting;
    },
  };
}
