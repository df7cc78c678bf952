/** A typed client of a running agent over its Unix socket (named pipe on Windows). */
import { request } from 'node:http';
import { createTRPCClient, httpLink, type TRPCClient, TRPCClientError } from '@trpc/client';
import { z } from 'zod';
import { AppError, errorReportSchema } from '../shared/errors.ts';
import type { AppRouter } from './router.ts';

export type AgentClient = TRPCClient<AppRouter>;

/** `fetch` over a socket path; the built-in one only knows TCP. Keeps the session cookie for as long as it lives. */
function socketFetch(socketPath: string) {
  let cookie: string | null = null;
  return (
    url: RequestInfo | URL | string,
    init?: { method?: string; headers?: unknown; body?: unknown },
  ): Promise<Response> =>
    new Promise((resolve, reject) => {
      const target = new URL(String(url));
      const outgoing = request(
        {
          socketPath,
          path: target.pathname + target.search,
          method: init?.method ?? 'GET',
          headers: {
            ...Object.fromEntries(new Headers(init?.headers as HeadersInit).entries()),
            ...(cookie === null ? {} : { cookie }),
          },
        },
        (incoming) => {
          const [set] = incoming.headers['set-cookie'] ?? [];
          if (set !== undefined) cookie = set.includes('Max-Age=0') ? null : set.split(';')[0]!;
          const parts: Buffer[] = [];
          incoming.on('data', (part: Buffer) => parts.push(part));
          incoming.on('error', reject);
          incoming.on('end', () =>
            resolve(
              new Response(Buffer.concat(parts), {
                status: incoming.statusCode ?? 500,
                headers: { 'content-type': 'application/json' },
              }),
            ),
          );
        },
      );
      outgoing.on('error', () =>
        reject(new AppError('AGENT_UNREACHABLE', 'Anneal is not running on this data folder.')),
      );
      outgoing.end(init?.body === undefined || init.body === null ? undefined : String(init.body));
    });
}

const reportSchema = z.object({ report: errorReportSchema });

/** Gives back the AppError that the agent sent. */
export function fromClientError(thrown: unknown): unknown {
  if (!(thrown instanceof TRPCClientError)) return thrown;
  if (thrown.cause instanceof AppError) return thrown.cause;
  const parsed = reportSchema.safeParse(thrown.data);
  if (!parsed.success)
    return new AppError('INTERNAL', 'The agent sent an answer that cannot be read.', { cause: thrown });
  return AppError.fromReport(parsed.data.report);
}

export function createAgentClient(socketPath: string): AgentClient {
  return createTRPCClient<AppRouter>({
    links: [httpLink({ url: 'http://localhost/trpc', fetch: socketFetch(socketPath) })],
  });
}
