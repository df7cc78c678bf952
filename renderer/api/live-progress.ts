/** Progress that changes several times a second: kept apart from the queries, which hold settled facts. */
import { useSyncExternalStore } from 'react';
import type { AgentEvent, ImportProgress } from '../../core/api/contract.ts';

export type StepProgress = Extract<AgentEvent, { type: 'progress' }>;

interface LiveProgress {
  /** By run, round and site; see {@link progressKey}. */
  steps: ReadonlyMap<string, StepProgress>;
  import: ImportProgress | null;
  /** Whether the event stream is open. */
  connected: boolean;
}

let current: LiveProgress = { steps: new Map(), import: null, connected: false };
const listeners = new Set<() => void>();

export const progressKey = (runId: string, round: number, siteId: string) => `${runId}/${round}/${siteId}`;

function set(next: Partial<LiveProgress>): void {
  current = { ...current, ...next };
  for (const listener of listeners) listener();
}

/** Keeps the newest step of each site; steps of earlier rounds are dropped. */
export function recordStep(event: StepProgress): void {
  const kept = [...current.steps].filter(
    ([, step]) => step.runId === event.runId && step.round === event.round,
  );
  set({ steps: new Map(kept).set(progressKey(event.runId, event.round, event.siteId), event) });
}

export function recordImport(progress: ImportProgress | null): void {
  set({ import: progress });
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
