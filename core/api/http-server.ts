/**
 * Serves the tRPC router and the screens over HTTP: on a Unix socket (named pipe on Windows) for the desktop
 * shell and the command line, on 127.0.0.1 with an access code for a browser.
 */
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { createHTTPHandler } from '@trpc/server/adapters/standalone';
import sirv from 'sirv';
import { z } from 'zod';
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { type AccessControl, createAccessControl } from './access.ts';
import type { AgentContext } from './context.ts';
import { appRouter } from './router.ts';
import { requestContext } from './session-cookie.ts';

const bodyLimitBytes = 1024 * 1024;
/** No script but our own files; styles inline because Mantine and the charts set them on elements. */
const contentSecurityPolicy =
  "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
  "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

export interface HttpServerOptions {
  context: AgentContext;
  logger: Logger;
  /** Folder of the built screens; absent when only the API is served. */
  screensFolder?: string;
  listen: { socket: string } | { port: number };
}

export interface HttpServer {
  /** The socket's path, or `http://127.0.0.1:<port>`. */
  readonly address: string;
  /** Present on loopback only. */
  readonly accessCode: string | null;
  close(): Promise<void>;
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response
    .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    .end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, message: string, advice = {}): void {
  sendJson(response, status, new AppError('NOT_ALLOWED', message, advice).toReport());
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > 4096) throw new AppError('NOT_ALLOWED', 'The request is too large.');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function handleSignIn(
  access: AccessControl,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const { code } = z.object({ code: z.string().max(64) }).parse(JSON.parse(await readBody(request)));
    const cookie = access.signIn(code);
    if (cookie === null) throw new AppError('NOT_ALLOWED', 'That is not the access code.');
    response.setHeader('set-cookie', cookie);
    sendJson(response, 200, {});
  } catch {
    const action = 'Type the code that Anneal printed when it started; after ten tries, wait a minute.';
    refuse(response, 401, 'That is not the access code.', { action });
  }
}

/** Against DNS rebinding and other sites' pages: only names of this machine, only our own origin. */
function comesFromThisMachine(request: IncomingMessage): boolean {
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  if (host !== '127.0.0.1' && host !== 'localhost') return false;
  const origin = request.headers.origin;
  return origin === undefined || origin === `http://${request.headers.host}`;
}

/**
 * Cookies also go to other ports of the same address: a page of another program on this machine may not ask in a
 * person's name, not even where its browser sends no Origin. Clients that are no browsers send no such header.
 */
function comesFromOwnPage(request: IncomingMessage): boolean {
  const site = request.headers['sec-fetch-site'];
  return site === undefined || site === 'same-origin' || site === 'none';
}

function listenOn(server: Server, listen: HttpServerOptions['listen']): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(toAppError(error)));
    if ('socket' in listen) {
      server.listen(listen.socket, () => {
        if (process.platform !== 'win32') chmodSync(listen.socket, 0o600);
        resolve(listen.socket);
      });
    } else {
      server.listen(listen.port, '127.0.0.1', () =>
        resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
      );
    }
  });
}

/** A socket file left by a killed agent is removed; one that answers means that another agent runs. */
async function freeSocket(path: string): Promise<void> {
  if (process.platform === 'win32' || !existsSync(path)) return;
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => resolve(true)).once('error', () => resolve(false));
    probe.once('close', () => resolve(false)).setTimeout(1000, () => probe.destroy());
    probe.once('connect', () => probe.end());
  });
  if (alive)
    throw new AppError('DATA_FOLDER_IN_USE', 'Another Anneal is already running on this data folder.');
  rmSync(path, { force: true });
}

/** @throws AppError PORT_IN_USE | DATA_FOLDER_IN_USE */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const onLoopback = 'port' in options.listen;
  const port = () => (server.address() as AddressInfo).port;
  const access = onLoopback ? createAccessControl(port) : null;
  const screens =
    options.screensFolder === undefined ? null : sirv(options.screensFolder, { dev: false, etag: true });
  const trpc = createHTTPHandler({
    router: appRouter,
    basePath: '/trpc/',
    maxBodySize: bodyLimitBytes,
    createContext: ({ req, res }) =>
      requestContext(options.context, { request: req, response: res, port: onLoopback ? port() : null }),
    onError: ({ error, path }) => {
      const report = toAppError(error.cause ?? error);
      if (report.code === 'INTERNAL')
        options.logger.error({ error: error.cause ?? error, path }, 'request failed');
    },
  });

  const server = createServer((request, response) => {
    response.setHeader('content-security-policy', contentSecurityPolicy);
    response.setHeader('x-content-type-options', 'nosniff');
    response.setHeader('referrer-policy', 'no-referrer');
    const path = (request.url ?? '/').split('?')[0]!;
    if (access !== null && !comesFromThisMachine(request)) {
      return refuse(response, 403, 'Only this machine may use this address.');
    }
    const isForApi = path === '/session' || path.startsWith('/trpc/');
    if (access !== null && isForApi && !comesFromOwnPage(request)) {
      return refuse(response, 403, 'Only the screens themselves may ask this.');
    }
    if (path === '/session' && access !== null) {
      if (request.method === 'POST') return void handleSignIn(access, request, response);
      return sendJson(response, 405, {});
    }
    if (path.startsWith('/trpc/')) {
      if (access !== null && !access.allows(request)) {
        return refuse(response, 401, 'Sign in with the access code first.');
      }
      return void trpc(request, response);
    }
    if (screens === null) return sendJson(response, 404, {});
    // The screens themselves hold no data, so they load before the sign-in.
    screens(request, response, () => sendJson(response, 404, {}));
  });

  if ('socket' in options.listen) await freeSocket(options.listen.socket);
  const address = await listenOn(server, options.listen);
  return {
    address,
    accessCode: access?.code ?? null,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
