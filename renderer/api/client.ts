/** The agent's API over the page's own origin: `app://` in the desktop app, 127.0.0.1 in a browser. */
import { createTRPCClient, httpBatchLink, httpSubscriptionLink, splitLink } from '@trpc/client';
import type { AppRouter } from '../../core/api/router.ts';
import { setLocked } from './session.ts';

const url = '/trpc';

/** 401 comes from in front of the API: the session cookie is missing or was of an earlier start. */
async function fetchInSession(input: RequestInfo | URL | string, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, init);
  if (response.status === 401) setLocked(true);
  return response;
}

export const api = createTRPCClient<AppRouter>({
  links: [
    splitLink({
      condition: (operation) => operation.type === 'subscription',
      true: httpSubscriptionLink({ url }),
      false: httpBatchLink({
        url,
        // DOM's own RequestInit is wider than the one that tRPC names.
        fetch: (input, init) => fetchInSession(input, init as RequestInit),
      }),
    }),
  ],
});
