/** What the store says about one run, in the words of the state machine. */
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundSiteRecord, RunRecord, RunStatus } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { getStrategy } from '../strategy/registry.ts';
import { type RoundPlan, type RunConfig, runConfigSchema, type Strategy } from '../strategy/strategy.ts';
import { chunkBytes, type ManifestBody } from '../transport/messages.ts';

export interface RunLedger {
  readonly runId: string;
  readonly config: RunConfig;
  readonly strategy: Strategy;
  run(): RunRecord;
  isOver(): boolean;
  /** Whether updates for this round are still welcome. */
  isOpen(round: number): boolean;
  planOf(round: number): RoundPlan;
  sitesOf(round: number): RoundSiteRecord[];
  /** Hash of the result of the last closed round, or of the state that the run started from. */
  newestState(): string;
  readState(sha256: string): Promise<ModelState>;
  /** Whether a hash is one of this run's global states. */
  isGlobalState(sha256: string): boolean;
  /** What the retained manifest should say now. */
  manifest(): ManifestBody;
}

const phases: Record<RunStatus, ManifestBody['phase']> = {
  waiting: 'waiting',
  running: 'train',
  evaluating: 'evaluate',
  finished: 'finished',
  failed: 'stopped',
  stopped: 'stopped',
};

/** @throws AppError NOT_FOUND */
export function openRunLedger(runId: string, store: Store, blobs: BlobStore): RunLedger {
  const config = runConfigSchema.parse(run().config);
  const configSha256 = hashJson(config);
  const strategy = getStrategy(config.strategy);

  function run(): RunRecord {
    const record = store.runs.get(runId);
    if (record === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
    return record;
  }

  const globalStates = () => store.adapters.list({ runId, kind: 'global' });

  function newestState(): string {
    const results = store.rounds.listOfRun(runId).flatMap(({ resultSha256 }) => resultSha256 ?? []);
    return results.at(-1) ?? globalStates().find((row) => row.round === -1)!.sha256;
  }

  return {
    runId,
    config,
    strategy,
    run,
    newestState,
    isOver: () => ['finished', 'failed', 'stopped'].includes(run().status),
    isOpen(round) {
      const { status, round: current } = run();
      return status === 'running' && current === round && store.rounds.get(runId, round)?.status === 'open';
    },
    planOf: (round) => strategy.configureTrain(config, round),
    sitesOf: (round) => store.roundSites.list(runId, round),
    readState: async (sha256) => decodeModelState(await blobs.read(sha256), 'global state'),
    isGlobalState: (sha256) => globalStates().some((row) => row.sha256 === sha256),
    manifest() {
      const { status, round } = run();
      const phase = phases[status];
      const record = store.rounds.get(runId, round);
      const state =
        phase === 'waiting' ? null : phase === 'train' ? (record?.startSha256 ?? null) : newestState();
      return {
        runId,
        config,
        configSha256,
        phase,
        round,
        plan: strategy.configureTrain(config, round),
        state: state === null ? null : { sha256: state, sizeBytes: blobs.sizeBytes(state), chunkBytes },
        foundation: [],
        participants: null,
        deadlineAt: record?.deadlineAt ?? null,
      };
    },
  };
}
