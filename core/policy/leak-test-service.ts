/**
 * Leak reports of the base models of an installation: measured at import, or when they are first asked for, and kept.
 */
import { defaultLeakLimits, type LeakLimits, type LeakReport, leakReasons } from '../config/leak-report.ts';
import type { Catalogue } from '../models/catalogue.ts';
import type { ExamineModel, ImportSteps } from '../models/import-model.ts';
import type { ModelManifest } from '../models/installed-models.ts';
import type { ImportOptions } from '../models/model-formats.ts';
import { AppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { LeakProgress, LeakRequest } from './leak-test-protocol.ts';
import { type LeakRunOptions, type MeasuredLeak, runLeakTest } from './leak-test-run.ts';

export interface LeakTests {
  /**
   * The report of a base model: the kept one, else it is measured in a process of its own (seconds to minutes) and kept.
   * Questions at the same time share one measurement; the first one's `onProgress` hears of it.
   * @throws AppError MODEL_UNKNOWN, MODEL_FILE_INVALID, TRAINING_FAILED, CANCELLED after {@link close}
   */
  leakOf(baseId: string, options?: Pick<LeakRunOptions, 'onProgress'>): Promise<LeakReport>;
  /**
   * Imports a model as the catalogue does, but measures it first.
   * @throws AppError MODEL_LEAKS when it hardly compresses and `allowLeak` is not set: then nothing is installed;
   *   CANCELLED after an abort; also what {@link leakOf} and `Catalogue.import` throw
   */
  import(path: string, options?: ImportOptions, choice?: ImportChoice): Promise<MeasuredManifest>;
  /** Ends what is being measured. */
  close(): void;
}

/** What of an import is done; `share` is of its step. */
export type ImportProgress = LeakProgress | { readonly step: 'copying' | 'opening'; readonly share: number };

export interface ImportChoice extends Pick<ImportSteps, 'signal' | 'workId'> {
  readonly onProgress?: ((progress: ImportProgress) => void) | undefined;
  /** Installs it even when it hardly compresses. */
  readonly allowLeak?: boolean | undefined;
}

export type MeasuredManifest = ModelManifest & { leak: LeakReport };

export interface LeakTestsOptions {
  readonly catalogue: Catalogue;
  /** That of the catalogue. */
  readonly modelsFolder?: string | undefined;
  readonly logger?: Logger | undefined;
}

export function createLeakTests({ catalogue, modelsFolder, logger }: LeakTestsOptions): LeakTests {
  const running = new Map<string, Promise<LeakReport>>();
  const closing = new AbortController();

  async function leakOf(
    baseId: string,
    options: Pick<LeakRunOptions, 'onProgress'> = {},
  ): Promise<LeakReport> {
    const kept = await catalogue.keptLeak(baseId);
    if (kept !== null) return kept;
    const key = `${baseId} ${await catalogue.identify(baseId)}`;
    const known = running.get(key);
    if (known !== undefined) return known;
    const measuring = measure(baseId, options).finally(() => running.delete(key));
    running.set(key, measuring);
    return measuring;
  }

  async function measure(baseId: string, options: LeakRunOptions): Promise<LeakReport> {
    const { sha256, report } = await run({ kind: 'installed', id: baseId, modelsFolder }, options);
    try {
      await catalogue.keepLeak(baseId, sha256, report);
    } catch (error) {
      // It is as true as a kept one, and is measured again the next time.
      logger?.warn({ event: 'leak_test.not_kept', error }, 'A leak report could not be written');
    }
    return report;
  }

  function run(request: LeakRequest, { signal, onProgress }: LeakRunOptions): Promise<MeasuredLeak> {
    const signals = [closing.signal, ...(signal === undefined ? [] : [signal])];
    return runLeakTest(request, { onProgress, logger, signal: AbortSignal.any(signals) });
  }

  return {
    leakOf,
    async import(path, options = {}, { allowLeak = false, ...choice } = {}) {
      const examine: ExamineModel = async (folder, model) => {
        const { report } = await run({ kind: 'files', folder, model }, choice);
        if (!allowLeak) requireCompression(model.id, report);
        return report;
      };
      const manifest = await catalogue.import(path, options, examine, choice);
      // One that was there already may come from before there was a leak test, or have been let in by a person.
      const leak = (await catalogue.keptLeak(manifest.id)) ?? (await measure(manifest.id, choice));
      if (!allowLeak) requireCompression(manifest.id, leak);
      return { ...manifest, leak };
    },
    close: () => closing.abort(),
  };
}

/** @throws AppError MODEL_LEAKS with every reason, when the network hardly compresses */
export function requireCompression(
  baseId: string,
  report: LeakReport,
  limits: LeakLimits = defaultLeakLimits,
): void {
  const reasons = leakReasons(report, limits);
  if (reasons.length === 0) return;
  throw new AppError(
    'MODEL_LEAKS',
    `The base model "${baseId}" hardly compresses images: ${reasons.join('; ')}.`,
  );
}
