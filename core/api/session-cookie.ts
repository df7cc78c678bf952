/**
 * The session of a signed-in person as a cookie: the page's own scripts can't read it, it is in no URL, and no other
 * site's page makes a browser send it. In the desktop app the shell keeps it for the page (electron/main/agent-proxy.ts).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Caller } from '../people/people.ts';
import type { AgentContext } from './context.ts';
import type { RequestContext } from './trpc.ts';

/** Set by the desktop shell for its page (electron/main/agent-proxy.ts); the command line sends none. */
export const screensHeader = 'x-anneal-screens';

/** The value of a cookie; null when the browser sent none. */
export function cookieOf(request: IncomingMessage, name: string): string | null {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [key, value] = part.trim().split('=');
    if (key === name && value !== undefined && value !== '') return value;
  }
  return null;
}

/** Cookies know no ports, so two Anneals on 127.0.0.1 need two names. */
const cookieName = (port: number | null) => (port === null ? 'anneal_person' : `anneal_person_${port}`);

/** @param port of the loopback server; null for the socket */
export function requestContext(
  agent: AgentContext,
  { request, response, port }: { request: IncomingMessage; response: ServerResponse; port: number | null },
): RequestContext {
  const name = cookieName(port);
  const caller: Caller = {
    channel: port === null ? 'socket' : 'loopback',
    isScreen: port !== null || request.headers[screensHeader] !== undefined,
    token: cookieOf(request, name),
  };
  return {
    agent,
    caller,
    person: agent.people.whoIs(caller),
    setSession(token) {
      const value = token === null ? `${name}=; Max-Age=0` : `${name}=${token}`;
      response.setHeader('set-cookie', `${value}; HttpOnly; SameSite=Strict; Path=/`);
    },
  };
}
