/** Progress that changes several times a second: kept apart from the queries, which hold settled facts. */
import { useSyncExternalStore } from 'react';
import type { AgentEvent, ImportProgress } from '../../core/api/contract.ts';

export type ModelProgress = Extract<AgentEvent, { type: 'model-import' }>['progress'];
export type StepProgress = Extract<AgentEvent, { type: 'progress' }>;

interface LiveProgress {
  /** By run, round and site; see {@link progressKey}. */
  steps: ReadonlyMap<string, StepProgress>;
  import: ImportProgress | null;
  /** Of the network that is being imported. */
  modelImport: ModelProgress | null;
  /** Whether the event stream is open. */
  connected: boolean;
}

let current: LiveProgress = { steps: new Map(), import: null, modelImport: null, connected: false };
const listeners = new Set<() => void>();

export const progressKey = (runId: string, round: number, siteId: string) => `${runId}/${round}/${siteId}`;

function set(next: Partial<LiveProgress>): void {
  current = { ...current, ...next };
  for (const listener of listeners) listener();
}

/**
 * Keeps the newest step of each site; steps of earlier rounds are dropped.
 * @returns whether it is the first one seen of this site in this round
 */
export function recordStep(event: StepProgress): boolean {
  const key = progressKey(event.runId, event.round, event.siteId);
  const first = !current.steps.has(key);
  const kept = [...current.steps].filter(
    ([, step]) => step.runId === event.runId && step.round === event.round,
  );
  set({ steps: new Map(kept).set(key, event) });
  return first;
}

export function recordImport(progress: ImportProgress | null): void {
  set({ import: progress });
}

export function recordModelImport(progress: ModelProgress | null): void {
  set({ modelImport: progress });
}

export function recordConnection(connected: boolean): void {
  if (connected !== current.connected) set({ connected });
}

export function useLiveProgress(): LiveProgress {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => current,
  );
}
