import { QueryClient } from '@tanstack/react-query';
import { TRPCClientError } from '@trpc/client';

/** An answer that is an error stays one; only a missing answer is worth another try. */
export function createQueries(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        retry: (failures, error) =>
          failures < 2 && !(error instanceof TRPCClientError && error.shape !== undefined),
        retryDelay: (attempt) => 500 * 2 ** attempt,
        staleTime: 1_000,
        // The agent is on this machine: the network being away says nothing about it.
        networkMode: 'always',
      },
      mutations: { networkMode: 'always' },
    },
  });
}
