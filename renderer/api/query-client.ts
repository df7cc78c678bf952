import { MutationCache, QueryCache, QueryClient } from '@tanstack/react-query';
import { TRPCClientError } from '@trpc/client';
import { toReport } from './errors.ts';

/** Answers that say that the person who was here is not any more. */
const aboutThePerson = new Set<string>(['SIGN_IN_NEEDED', 'SESSION_LOCKED']);

export function createQueries(): QueryClient {
  const onError = (error: unknown) => {
    if (aboutThePerson.has(toReport(error).code)) void queries.invalidateQueries({ queryKey: ['me'] });
  };
  const queries: QueryClient = new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
    defaultOptions: {
      queries: {
        // An answer that is an error stays one; only a missing answer is worth another try.
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
  return queries;
}
