/**
 * The model with which a site works in a round: the global state, decoded; cut to the site's own rank; with the site's
 * local parameters in it; on a base model into which the run's frozen base delta is merged.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type RunConfig, startStateOf } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import { encodeModelState } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type Arrivals, broken, createArrivals } from '../policy/arrivals.ts';
import { createLeaves, type Leaves } from '../policy/leaves.ts';
import { toAppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import { readOwnBlob } from '../store/read-own-blob.ts';
import { onMergedWeights } from '../strategy/frozen-base-delta.ts';
import { createRunState } from '../strategy/run-state.ts';
import { siteStart } from '../strategy/site-rank.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import {
  decodeFrozenBase,
  decodeGlobalState,
  encodeGlobalState,
  globalForm,
  isPlainFile,
} from '../strategy/wire/wire.ts';
import type { BlobReference } from '../transport/messages.ts';
import { createFrozenBaseMerge } from './frozen-base-merge.ts';
import {
  decodeLocalParameters,
  hasLocalParameters,
  type LocalParameters,
  withKept,
} from './local-parameters.ts';
import type { SiteOptions, SitePorts } from './site-node.ts';

/** What a site works by in a round, from the manifest. */
export interface RoundContext {
  runId: string;
  siteId: string;
  config: RunConfig;
  /** The id under which this site holds the base model of the run. */
  baseId: string;
  round: number;
  plan: RoundPlan;
  state: BlobReference;
  /** What lies under the state, oldest first. */
  frozenBaseDelta: readonly BlobReference[];
  /** Whether `state` is the run's last, which is only evaluated. */
  isLast: boolean;
}

/** What the run's contract says of what comes and what leaves. */
export interface RunTerms {
  base: BaseModel;
  initial: ModelState;
  arrivals: Arrivals;
  leaves: Leaves;
}

export interface ComposedState {
  /** For the trainer. */
  stateFile: string;
  /** Of that file, as it was fetched or composed. */
  stateSha256: string;
  /**
   * What it was made of, read when asked for, because runs that send whole float32 states never need it: `start` is the
   * decoded global state, as the coordinator has it.
   */
  read(): Promise<{ base: BaseModel; start: ModelState; own: LocalParameters | null }>;
  /** Deletes the file unless it is the received one. */
  release(): Promise<void>;
}

export interface RoundStatesOptions
  extends Pick<SiteOptions, 'store' | 'blobs' | 'workFolder' | 'siteName' | 'frozenBases'> {
  ports: Pick<SitePorts, 'fetch'>;
  loadBase(baseId: string): Promise<BaseModel>;
}

/** To train from, or to be evaluated; behind a run's last round the local parameters that this round made counts, too. */
export type Purpose = 'train' | 'evaluate' | 'evaluate-last';

export interface RoundStates {
  /**
   * Fetches the state and those parts of the frozen base delta that are not here yet, and holds them against the
   * contract: sizes before the first chunk, and every tensor before anything is computed with it.
   * @throws AppError CONTRACT_BROKEN
   */
  fetch(context: RoundContext, signal: AbortSignal, onDownload: () => void): Promise<void>;
  termsOf(context: RoundContext): Promise<RunTerms>;
  /**
   * @throws AppError MODEL_FILE_INVALID | SHAPE_MISMATCH | BLOB_CORRUPT | DISK_FULL; FILE_DAMAGED when local parameters are
   */
  compose(context: RoundContext, purpose: Purpose): Promise<ComposedState>;
}

/** Settings key, as databases hold it: blobs of the frozen base delta that `sweepBlobs` must leave alone. */
export const frozenBaseKey = 'site.foundation';
export const frozenBaseSchema = z.array(sha256Schema);

export function createRoundStates(options: RoundStatesOptions): RoundStates {
  const { store, blobs, workFolder } = options;
  const frozenBases = options.frozenBases ?? createFrozenBaseMerge();
  /** Of the last run: drawn anew it would take as long as a training step. */
  let known: ({ runId: string } & RunTerms) | null = null;

  async function termsOf({ runId, config, baseId }: RoundContext): Promise<RunTerms> {
    const base = await options.loadBase(baseId);
    if (known?.runId !== runId || known.base !== base) {
      const initial = createRunState(config, base);
      known = {
        ...{ runId, base, initial },
        arrivals: createArrivals(config, base, initial),
        leaves: createLeaves(config, base),
      };
    }
    return known;
  }

  async function read(context: RoundContext, purpose: Purpose) {
    const { runId, round, config, plan, state } = context;
    const { base, initial } = await termsOf(context);
    const bytes = await blobs.read(state.sha256);
    const start = decodeGlobalState(bytes, 'the global state', { config, plan, base, initial });
    const memory = hasLocalParameters(config, plan)
      ? store.siteMemory.newestBefore(runId, purpose === 'evaluate-last' ? round + 1 : round)
      : null;
    const own =
      memory === null
        ? null
        : decodeLocalParameters(await readOwn(memory.sha256), 'the local parameters of the site', start);
    return { base, initial, start, own };
  }

  /** Nobody else has them: the run cannot go on here as it was, and must not go on as if there were none. */
  const readOwn = (hash: string) =>
    readOwnBlob(blobs, hash, {
      message: "This site's own part of the model (its local parameters) is damaged on this disk.",
      action:
        'Restore the data folder from a backup, and have the disk checked. Until then this site does not train in this run.',
    });

  /** The round whose start state it is; the last state starts none. */
  const startedRound = ({ round, isLast, config }: RoundContext) => (isLast ? config.rounds : round);

  function checkSizes(context: RoundContext, { arrivals, base, initial }: RunTerms): void {
    const { state, frozenBaseDelta, config, plan } = context;
    const round = startedRound(context);
    const most = arrivals.stateBytes(round);
    if (state.sizeBytes > most)
      throw broken(`it has ${state.sizeBytes} bytes; the contract says ${most} at most`);
    const parts = arrivals.frozenParts(round);
    if (frozenBaseDelta.length > parts.count)
      throw broken(`${frozenBaseDelta.length} parts lie under it; the contract says ${parts.count}`);
    const large = frozenBaseDelta.find(({ sizeBytes }) => sizeBytes > parts.bytes);
    if (large !== undefined)
      throw broken(`a part under it has ${large.sizeBytes} bytes; the contract says ${parts.bytes} at most`);
    if (round > 0) return;
    const start = startStateOf(config);
    if (start === null) {
      if (state.sha256 !== sha256(encodeGlobalState(initial, { config, plan, base })))
        throw broken('the run does not start from the model that its seed gives');
    } else if (state.sha256 !== start.sha256)
      throw broken('the run does not start from the model that its contract names');
  }

  async function checkContent(context: RoundContext, terms: RunTerms): Promise<void> {
    const { base, initial, arrivals } = terms;
    const { config, plan, state, frozenBaseDelta } = context;
    const round = startedRound(context);
    try {
      const bytes = await blobs.read(state.sha256);
      arrivals.checkState(decodeGlobalState(bytes, 'the file', { config, plan, base, initial }), round);
      for (const { sha256: part } of frozenBaseDelta) {
        const decoded = decodeFrozenBase(await blobs.read(part), 'the file', { config, base, initial });
        arrivals.checkFrozenPart(decoded, round);
      }
    } catch (thrown) {
      const error = toAppError(thrown);
      throw error.code === 'MODEL_FILE_INVALID' ? broken(error.message.replace(/\.$/, '')) : thrown;
    }
  }

  /** Whether the trainer can take the global state as it came. */
  function isReady({ config, plan, frozenBaseDelta }: RoundContext, purpose: Purpose): boolean {
    const isCut = purpose === 'train' && Object.hasOwn(config.siteRanks, options.siteName);
    return isPlainFile(globalForm({ config, plan })) && frozenBaseDelta.length === 0 && !isCut;
  }

  return {
    termsOf,
    async fetch(context, signal, onDownload) {
      const { state, frozenBaseDelta } = context;
      const terms = await termsOf(context);
      checkSizes(context, terms);
      const missing = [state, ...frozenBaseDelta].filter(({ sha256 }) => !blobs.has(sha256));
      // Before they are fetched: a sweep after a crash must not throw away what has arrived.
      if (frozenBaseDelta.length > 0)
        store.settings.set(
          frozenBaseKey,
          frozenBaseDelta.map(({ sha256 }) => sha256),
        );
      if (missing.length > 0) onDownload();
      for (const reference of missing) await options.ports.fetch(reference, signal);
      await checkContent(context, terms);
    },

    async compose(context, purpose) {
      if (isReady(context, purpose)) {
        const stateFile = blobs.path(context.state.sha256);
        const stateSha256 = context.state.sha256;
        return { stateFile, stateSha256, read: () => read(context, purpose), release: async () => {} };
      }
      const { config, plan } = context;
      const parts = await read(context, purpose);
      const { base, initial, start, own } = parts;
      // A whole global state is evaluated as it is; one that needs the site's own factors must have their rank.
      const isCut = purpose === 'train' || plan.sends !== 'both';
      const cut = isCut ? siteStart(config, options.siteName, start) : start;
      const personal = own === null ? cut : withKept(cut, own.kept);
      const composed = onMergedWeights(personal, await frozenBases.merge(context, base, initial, blobs));
      await mkdir(workFolder, { recursive: true });
      const name = purpose === 'train' ? `${context.runId}-${context.round}.start` : 'evaluated';
      const stateFile = join(workFolder, `${name}.safetensors`);
      const bytes = encodeModelState(composed);
      await writeFileAtomically(stateFile, bytes);
      const release = () => rm(stateFile, { force: true });
      return { stateFile, stateSha256: sha256(bytes), read: async () => parts, release };
    },
  };
}
