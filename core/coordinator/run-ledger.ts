/** What a run is made of: its settings, plans, states and files, and the manifest that says so. */
import { type RunConfig, startStateOf } from '../config/run-config.ts';
import { countParameters, type ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import { type AskedBy, contractHash, contractOf } from '../policy/contract.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { hashJson, sha256 as hashOf } from '../shared/hash.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundRecord, RoundSiteRecord, RunPause, RunRecord, RunStatus } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import { siteStart } from '../strategy/site-rank.ts';
import type { RoundPlan, Strategy } from '../strategy/strategy.ts';
import { trainedParts } from '../strategy/what-travels.ts';
import {
  decodeFrozenBase,
  decodeGlobalState,
  decodeUpdate,
  encodeGlobalState,
  fileValueCount,
  frozenBaseForm,
} from '../strategy/wire/wire.ts';
import {
  type BlobReference,
  chunkBytes,
  type ManifestBody,
  manifestProtocol,
} from '../transport/messages.ts';
import { configOf } from './readable-run.ts';
import { newestState } from './run-records.ts';

/** An update that was here has lost its file or has other bytes now: no fault of its site, which still has it. */
export class DamagedUpdate extends Error {
  readonly siteId: string;
  readonly updateSha256: string;

  constructor(siteId: string, updateSha256: string, cause: unknown) {
    super('an update is damaged on this disk', { cause });
    this.siteId = siteId;
    this.updateSha256 = updateSha256;
  }
}

/** A file of the run itself, which its sites fetch, has lost its file or has other bytes now. Sites that have fetched it have it still. */
export class DamagedState extends AppError {
  readonly sha256: string;

  constructor(sha256: string, cause?: unknown) {
    const text = `The file ${sha256.slice(0, 12)} of this run, a part of the shared model, is damaged or missing on this disk, and no site that is connected has it.`;
    super('BLOB_CORRUPT', text, { cause });
    this.sha256 = sha256;
  }
}

export interface RunLedger {
  readonly runId: string;
  readonly config: RunConfig;
  readonly strategy: Strategy;
  readonly base: BaseModel;
  run(): RunRecord;
  /** @throws AppError NOT_FOUND */
  round(round: number): RoundRecord;
  /** The plan of a round; of the last one for every later number. */
  planOf(round: number): RoundPlan;
  sitesOf(round: number): RoundSiteRecord[];
  /** What a robust rule or a rank of its own knows a site by. */
  nameOf(siteId: string): string;
  /**
   * A global state as the sites have it: what does not travel is as the run began.
   * @param round the one that starts from it
   * @throws DamagedState
   */
  readState(sha256: string, round: number): Promise<ModelState>;
  /** The state from which a site's round started, cut to the site's own rank. */
  startOf(siteId: string, round: number): Promise<ModelState>;
  /** @param name what errors call it @throws DamagedUpdate; AppError MODEL_FILE_INVALID */
  readUpdate(sha256: string, siteId: string, round: number, name: string): Promise<ModelState>;
  /** Whether a site may fetch this blob: a global state of this run, or a part of its frozen base delta. */
  offers(sha256: string): boolean;
  isGlobalState(sha256: string): boolean;
  /** Parts of the frozen base delta that lie under the state with which `round` starts, oldest first. */
  frozenBaseOf(round: number): string[];
  /** Of a blob that this run offers, also where its file is gone; null when nothing says it any more. */
  referenceTo(sha256: string): BlobReference | null;
  /** The bytes of what follows from the settings alone: the state with which a run begins. Null of anything else. */
  computed(sha256: string): Uint8Array | null;
  /** Number of model values in a blob that this run offers. */
  valuesIn(sha256: string): number;
  /** Call it at the start and when a round has closed, for `valuesIn`. @throws DamagedState */
  countFrozenBase(): Promise<void>;
  /**
   * What the retained manifest should say now.
   * @param pause of the run; what the store says when absent
   */
  manifest(pause?: RunPause | null): ManifestBody;
}

const phases: Record<RunStatus, ManifestBody['phase']> = {
  waiting: 'waiting',
  running: 'train',
  evaluating: 'evaluate',
  finished: 'finished',
  failed: 'stopped',
  stopped: 'stopped',
};

/** Sites hear no more of what is wrong with the coordinator's machine. */
const pauseForSites: Record<RunPause['kind'], string> = {
  asked: 'The coordinator has paused the run. This site waits until it goes on.',
  retry: 'Something went wrong at the coordinator. It tries again by itself, and this site waits.',
  person: 'Something went wrong at the coordinator, which a person has to mend there. This site waits.',
};

/** @throws AppError NOT_FOUND */
export function openRunLedger(
  runId: string,
  store: Store,
  blobs: BlobStore,
  base: BaseModel,
  askedBy: AskedBy,
): RunLedger {
  const config = configOf(run());
  const configSha256 = hashJson(config);
  const contractSha256 = contractHash(contractOf(config, base, askedBy));
  const strategy = getStrategy(config.strategy);
  const initial = createRunState(config, base);
  /** Values in parts of the frozen base delta, by hash. */
  const counted = new Map<string, number>();
  /** Bytes in what was read. */
  const sizes = new Map<string, number>();
  /** The state that was read last: every update of a round is judged against the same one. */
  let lastRead: { key: string; state: Promise<ModelState> } | null = null;

  function run(): RunRecord {
    const record = store.runs.get(runId);
    if (record === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
    return record;
  }

  function roundOf(round: number): RoundRecord {
    const record = store.rounds.get(runId, round);
    if (record === null) throw new AppError('NOT_FOUND', `Round ${round} of this run was not opened.`);
    return record;
  }

  // Asked for each chunk that is sent: by its hash, not by a look through all rounds.
  const isGlobalState = (sha256: string) => store.adapters.isGlobalState(runId, sha256);
  const planOf = (round: number) => strategy.configureTrain(config, Math.min(round, config.rounds - 1));

  const nameOf = (siteId: string) => store.sites.get(siteId)?.name ?? siteId;

  async function readShared(sha256: string): Promise<Uint8Array> {
    try {
      const bytes = await blobs.read(sha256);
      sizes.set(sha256, bytes.length);
      return bytes;
    } catch (thrown) {
      const { code } = toAppError(thrown);
      throw code === 'BLOB_CORRUPT' || code === 'NOT_FOUND' ? new DamagedState(sha256, thrown) : thrown;
    }
  }

  function readState(sha256: string, round: number): Promise<ModelState> {
    const key = `${sha256} ${round}`;
    if (lastRead?.key === key) return lastRead.state;
    const state = readShared(sha256).then((bytes) => {
      const plan = planOf(round);
      return decodeGlobalState(bytes, 'global state', { config, plan, base, initial });
    });
    lastRead = { key, state };
    // What could not be read is tried again.
    state.catch(() => {
      if (lastRead?.state === state) lastRead = null;
    });
    return state;
  }

  const startOf = async (siteId: string, round: number) =>
    siteStart(config, nameOf(siteId), await readState(roundOf(round).startSha256, round));

  const frozenBaseOf = (round: number) =>
    store.rounds
      .listOfRun(runId)
      .flatMap((record) => (record.round < round ? (record.frozenBaseSha256 ?? []) : []));

  /** Sites behind the state that `round` has made, or that the run starts from. */
  function contributorsTo(round: number): number {
    const closed = store.rounds
      .listOfRun(runId)
      .findLast((each) => each.round <= round && each.resultSha256 !== null);
    const start = startStateOf(config);
    if (closed !== undefined) return contributorsOf(closed);
    const source = start === null ? null : store.rounds.get(start.runId, start.round);
    return source === null ? 0 : contributorsOf(source);
  }

  /** A version before 5 did not count them, but kept who delivered. */
  function contributorsOf(closed: RoundRecord): number {
    const received = () =>
      store.roundSites.list(closed.runId, closed.round).filter(({ status }) => status === 'received').length;
    return closed.contributors ?? received();
  }

  function referenceTo(sha256: string): BlobReference | null {
    const recorded = () => sizes.get(sha256) ?? store.adapters.get(sha256)?.sizeBytes ?? null;
    const sizeBytes = blobs.has(sha256) ? blobs.sizeBytes(sha256) : recorded();
    return sizeBytes === null ? null : { sha256, sizeBytes, chunkBytes };
  }

  function referenceIn(manifestOf: string): BlobReference {
    const reference = referenceTo(manifestOf);
    if (reference === null) throw new DamagedState(manifestOf);
    return reference;
  }

  function computed(sha256: string): Uint8Array | null {
    if (startStateOf(config) !== null) return null;
    const bytes = encodeGlobalState(initial, { config, plan: planOf(0), base });
    return hashOf(bytes) === sha256 ? bytes : null;
  }

  return {
    runId,
    config,
    strategy,
    base,
    run,
    round: roundOf,
    planOf,
    isGlobalState,
    frozenBaseOf,
    nameOf,
    sitesOf: (round) => store.roundSites.list(runId, round),
    readState,
    startOf,
    referenceTo,
    computed,
    async readUpdate(sha256, siteId, round, name) {
      const context = { config, plan: planOf(round), base, start: await startOf(siteId, round) };
      const bytes = await blobs.read(sha256).catch((thrown) => {
        const { code } = toAppError(thrown);
        throw code === 'BLOB_CORRUPT' || code === 'NOT_FOUND'
          ? new DamagedUpdate(siteId, sha256, thrown)
          : thrown;
      });
      return decodeUpdate(bytes, name, context);
    },
    valuesIn: (sha256) => counted.get(sha256) ?? store.adapters.get(sha256)?.parameters ?? 0,
    async countFrozenBase() {
      for (const sha256 of frozenBaseOf(config.rounds)) {
        if (counted.has(sha256)) continue;
        const part = decodeFrozenBase(await readShared(sha256), 'the frozen base delta', {
          config,
          base,
          initial,
        });
        counted.set(sha256, fileValueCount(part, frozenBaseForm({ config })));
      }
    },
    offers: (sha256) => isGlobalState(sha256) || frozenBaseOf(config.rounds).includes(sha256),
    manifest(given) {
      const { status, round, pause: stored } = run();
      const pause = given === undefined ? stored : given;
      const phase = phases[status];
      const record = store.rounds.get(runId, round);
      const isTraining = phase === 'train';
      const state =
        phase === 'waiting'
          ? null
          : isTraining
            ? (record?.startSha256 ?? null)
            : newestState({ runId, store });
      return {
        protocol: manifestProtocol,
        runId,
        config,
        ...{ configSha256, contractSha256 },
        phase,
        round,
        plan: planOf(round),
        state: state === null ? null : referenceIn(state),
        contributors: state === null ? null : contributorsTo(isTraining ? round - 1 : config.rounds - 1),
        frozenBaseDelta: frozenBaseOf(isTraining ? round : config.rounds).map(referenceIn),
        participants: isTraining ? (record?.participants ?? null) : null,
        deadlineAt: record?.deadlineAt ?? null,
        paused: pause === null ? null : pauseForSites[pause.kind],
      };
    },
  };
}

/** Values that a site trains which starts from `state`: factors or base weights, and the head. */
export function countTrainable(
  state: ModelState,
  plan: Pick<RoundPlan, 'mode' | 'trains'>,
  { lastK }: Pick<RunConfig, 'lastK'>,
  base: BaseModel,
): number {
  const weights = trainableWeights(base, plan.mode, lastK).map(
    (name) => [name, base.weights.get(name)!] as const,
  );
  const lora: ModelState['lora'] = plan.mode === 'lora' ? state.lora : new Map();
  return countParameters({ ...state, lora, base: new Map(weights) }, trainedParts(plan));
}
