/**
 * Stands in for `protocol`: Chromium knows no `app://`, so a loopback server takes its place. It calls the
 * app's handler with a `Request` for the custom URL and streams the `Response`, server-sent events included.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import type { CustomScheme } from 'electron';
import { record } from './context.ts';

type Handler = (request: Request) => Response | Promise<Response>;

const servers = new Map<string, Promise<number>>();
const ports = new Map<string, number>();
let isReady = false;

/** From now on schemes can be handled, and no longer be registered. */
export function protocolIsReady(): void {
  isReady = true;
}

export const protocol = {
  registerSchemesAsPrivileged: (schemes: CustomScheme[]) => {
    if (isReady) throw new Error('protocol.registerSchemesAsPrivileged should be called before app is ready');
    record('protocol.registerSchemesAsPrivileged', schemes);
  },
  handle: (scheme: string, handler: Handler) => {
    if (!isReady) throw new Error('protocol.handle needs the ready event first');
    if (servers.has(scheme)) throw new Error(`The scheme '${scheme}' is already registered`);
    servers.set(scheme, startServer(scheme, handler));
  },
  isProtocolHandled: (scheme: string) => servers.has(scheme),
};

/** `app://anneal/x` as Chromium can load it: `http://anneal.app.localhost:<port>/x`. */
export async function toPageUrl(url: string): Promise<string> {
  const parsed = new URL(url);
  const server = servers.get(parsed.protocol.slice(0, -1));
  if (server === undefined) return url;
  const host = `${parsed.host}.${parsed.protocol.slice(0, -1)}.localhost`;
  return `http://${host}:${await server}${parsed.pathname}${parsed.search}${parsed.hash}`;
}

/** The other way round; foreign URLs stay as they are. */
export function toAppUrl(url: string): string {
  const match = /^http:\/\/([^/:]+)\.([a-z]+)\.localhost:(\d+)(\/.*)?$/.exec(url);
  if (match === null || ports.get(match[2]!) !== Number(match[3])) return url;
  return `${match[2]}://${match[1]}${match[4] ?? '/'}`;
}

async function startServer(scheme: string, handler: Handler): Promise<number> {
  const server = createServer((incoming, outgoing) => {
    answer(handler, incoming, outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  ports.set(scheme, port);
  server.unref();
  return port;
}

async function answer(handler: Handler, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const aborted = new AbortController();
  outgoing.once('close', () => aborted.abort());
  const hasBody = incoming.method !== 'GET' && incoming.method !== 'HEAD';
  const request = new Request(toAppUrl(`http://${incoming.headers.host}${incoming.url}`), {
    method: incoming.method ?? 'GET',
    headers: Object.entries(incoming.headers).flatMap(([name, value]): [string, string][] =>
      name === 'host' || value === undefined ? [] : [[name, String(value)]],
    ),
    signal: aborted.signal,
    ...(hasBody ? { body: Readable.toWeb(incoming) as ReadableStream, duplex: 'half' as const } : {}),
  });
  const response = await handler(request);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.flushHeaders();
  if (response.body === null) outgoing.end();
  else await pipeline(Readable.fromWeb(response.body as NodeReadableStream), outgoing);
}
