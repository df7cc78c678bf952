/** Tells everybody who listens that something changed; progress is passed on a few times a second at most. */
import type { AgentEvent } from '../api/contract.ts';

const progressIntervalMs = 200;

export interface EventHub {
  emit(event: AgentEvent): void;
  listen(listener: (event: AgentEvent) => void): () => void;
}

export function createEventHub(): EventHub {
  const listeners = new Set<(event: AgentEvent) => void>();
  const lastProgress = new Map<string, number>();
  return {
    emit(event) {
      if (event.type === 'progress') {
        const now = performance.now();
        const last = lastProgress.get(event.siteId) ?? Number.NEGATIVE_INFINITY;
        if (now - last < progressIntervalMs) return;
        lastProgress.set(event.siteId, now);
      }
      for (const listener of listeners) listener(event);
    },
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
