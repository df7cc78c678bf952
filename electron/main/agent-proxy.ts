/**
 * Passes the screens' API calls on to the agent's socket. Answers are streamed, so that server-sent events
 * arrive as they happen.
 */
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { screensHeader } from '../../core/api/session-cookie.ts';
import { AppError, toAppError } from '../../core/shared/errors.ts';

export interface AgentProxyOptions {
  /** The agent's socket, once there is one. */
  whenReady(timeoutMs: number): Promise<string>;
  /** How long a call waits for an agent that is starting. */
  waitMs?: number;
  /** Requests with more than this are refused; API calls carry paths and settings, never images. */
  maxBodyBytes?: number;
}

const passedOn = ['accept', 'content-type', 'last-event-id', 'trpc-accept'];
const passedBack = ['cache-control', 'content-type', 'vary', 'x-accel-buffering'];
const bodiless = new Set([204, 205, 304]);
/** The agent was not there to take the request, so sending it again cannot do anything twice. */
const notDelivered = new Set(['ECONNREFUSED', 'ENOENT']);

/**
 * The session of whoever signed in, kept for the page: it never sees the token, and pages of custom schemes have no
 * cookies. In memory, so that closing the app signs out.
 */
interface CookieJar {
  cookie: string | null;
}

/** @returns a function that answers one request to `/trpc/…`; it never rejects */
export function createAgentProxy(options: AgentProxyOptions): (request: Request) => Promise<Response> {
  const waitMs = options.waitMs ?? 30_000;
  const maxBodyBytes = options.maxBodyBytes ?? 4 * 1024 * 1024;
  const jar: CookieJar = { cookie: null };
  return async (request) => {
    if (!['GET', 'POST', 'HEAD'].includes(request.method)) return new Response(null, { status: 405 });
    try {
      const body = await readBody(request, maxBodyBytes);
      return await sendWhenReady({ request, body, jar }, options.whenReady, waitMs);
    } catch (error) {
      return errorResponse(toProxyError(error));
    }
  };
}

interface Outgoing {
  request: Request;
  body: Buffer;
  jar: CookieJar;
}

async function sendWhenReady(
  outgoing: Outgoing,
  whenReady: AgentProxyOptions['whenReady'],
  waitMs: number,
): Promise<Response> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const socket = await whenReady(Math.max(0, deadline - performance.now()));
    try {
      return await send(outgoing, socket);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      // An agent that has just been killed still counts as ready for a moment.
      if (!notDelivered.has(code) || performance.now() >= deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function send({ request, body, jar }: Outgoing, socketPath: string): Promise<Response> {
  const url = new URL(request.url);
  const headers: Record<string, string> = {
    ...{ host: 'localhost', 'content-length': String(body.length), [screensHeader]: '1' },
    ...(jar.cookie === null ? {} : { cookie: jar.cookie }),
  };
  for (const name of passedOn) {
    const value = request.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      socketPath,
      method: request.method,
      path: url.pathname + url.search,
      headers,
      signal: request.signal,
    });
    outgoing.once('error', reject);
    outgoing.once('response', (incoming) => {
      keepCookie(jar, incoming.headers['set-cookie']);
      resolve(toResponse(incoming));
    });
    outgoing.end(body);
  });
}

/** `name=value; attributes`; one that is empty or over ends the session. */
function keepCookie(jar: CookieJar, setCookie: readonly string[] | undefined): void {
  const [pair = '', ...attributes] = (setCookie?.at(-1) ?? '').split(';').map((part) => part.trim());
  if (pair === '') return;
  const isOver = pair.endsWith('=') || attributes.some((text) => text.toLowerCase() === 'max-age=0');
  jar.cookie = isOver ? null : pair;
}

function toResponse(incoming: IncomingMessage): Response {
  const status = incoming.statusCode ?? 502;
  const headers = pickHeaders(incoming.headers);
  incoming.on('error', () => {}); // The stream below carries the error to the page.
  if (bodiless.has(status)) {
    incoming.resume();
    return new Response(null, { status, headers });
  }
  const stream = Readable.toWeb(incoming) as NodeReadableStream<Uint8Array>;
  return new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>, { status, headers });
}

function pickHeaders(from: IncomingHttpHeaders): Headers {
  const headers = new Headers({ 'x-content-type-options': 'nosniff' });
  for (const name of passedBack) {
    const value = from[name];
    if (value !== undefined) headers.set(name, String(value));
  }
  return headers;
}

async function readBody(request: Request, maxBytes: number): Promise<Buffer> {
  if (request.body === null) return Buffer.alloc(0);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks);
    size += value.byteLength;
    if (size > maxBytes) {
      await reader.cancel();
      throw new AppError('CONFIG_INVALID', 'The request is too large.');
    }
    chunks.push(value);
  }
}

function toProxyError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (notDelivered.has(code) || code === 'ECONNRESET' || code === 'EPIPE') {
    return new AppError('AGENT_UNREACHABLE', 'The background service stopped while it was answering.', {
      action: 'Wait a moment and try again; Anneal starts it again.',
      cause: error,
    });
  }
  return toAppError(error);
}

/** An error in the shape in which the agent itself would report it, so that the screens show it alike. */
function errorResponse(error: AppError): Response {
  const data = { code: 'INTERNAL_SERVER_ERROR', httpStatus: error.status, report: error.toReport() };
  return Response.json({ error: { message: error.message, code: -32603, data } }, { status: error.status });
}
