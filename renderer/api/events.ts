/** Listens to the agent: facts that changed are asked for again, progress goes to the live store. */
import { type QueryClient, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import type { AgentEvent } from '../../core/api/contract.ts';
import { api } from './client.ts';
import { recordConnection, recordImport, recordModelImport, recordStep } from './live-progress.ts';
import type { KeyWord } from './queries.ts';

const affected: Record<Extract<AgentEvent, { type: 'changed' }>['what'], KeyWord[]> = {
  status: ['status'],
  run: ['run', 'coordinator', 'site', 'trace', 'people'],
  sites: ['coordinator', 'plan'],
  dataset: ['dataset', 'site'],
  adapters: ['adapters'],
  audit: ['audit'],
  backup: ['backups'],
  models: ['models', 'plan'],
};

/** @returns a function that passes an event on to the cache or to the live store */
export function createEventHandler(queries: QueryClient): (event: AgentEvent) => void {
  return (event) => {
    if (event.type === 'progress') {
      // A site that has just begun is not in the answers yet, so that its steps would have no row.
      if (recordStep(event)) void queries.invalidateQueries({ queryKey: ['run'] });
      return;
    }
    if (event.type === 'import') return recordImport(event.progress);
    if (event.type === 'model-import') return recordModelImport(event.progress);
    for (const key of affected[event.what] ?? []) void queries.invalidateQueries({ queryKey: [key] });
  };
}

/** Subscribes while mounted; tRPC reconnects by itself, and after a gap everything is asked for again. */
export function useAgentEvents(): void {
  const queries = useQueryClient();
  useEffect(() => {
    let everOpen = false;
    const subscription = api.events.subscribe(undefined, {
      onData: createEventHandler(queries),
      onStarted: () => {
        recordConnection(true);
        if (everOpen) void queries.invalidateQueries();
        everOpen = true;
      },
      onConnectionStateChange: (state) => {
        if (state.state !== 'pending') recordConnection(false);
      },
      onError: () => recordConnection(false),
    });
    return () => subscription.unsubscribe();
  }, [queries]);
}
