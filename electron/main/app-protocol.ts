/**
 * The `app://anneal/` scheme: the screens come from files, their API calls go to the agent. The app opens
 * no TCP port.
 */
import { protocol } from 'electron';

export const appOrigin = 'app://anneal';

/** Whether a URL belongs to the app's own pages. */
export function isAppUrl(url: string): boolean {
  return url === appOrigin || url.startsWith(`${appOrigin}/`);
}

/** Has to run before the app is ready. */
export function registerAppScheme(): void {
  protocol.registerSchemesAsPrivileged([
    { scheme: 'app', privileges: { standard: true, secure: true, supportFetchAPI: true, stream: true } },
  ]);
}

export interface AppProtocolParts {
  files(request: Request): Promise<Response>;
  agent(request: Request): Promise<Response>;
}

/** Decides which part answers a request; only the host `anneal` exists. */
function routeAppRequest(parts: AppProtocolParts, request: Request): Promise<Response> {
  const url = new URL(request.url);
  if (!isAppUrl(url.href)) return Promise.resolve(new Response(null, { status: 404 }));
  const isApi = url.pathname === '/trpc' || url.pathname.startsWith('/trpc/');
  return isApi ? parts.agent(request) : parts.files(request);
}

export function serveAppProtocol(parts: AppProtocolParts): void {
  protocol.handle('app', (request) => routeAppRequest(parts, request));
}
