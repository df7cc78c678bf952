/** Serves the built screens out of one folder, and nothing outside it. */
import { readFile } from 'node:fs/promises';
import { extname, join, sep } from 'node:path';

/**
 * Scripts come from the app alone. Styles may be inline because the component library writes its theme
 * into style elements; no text from outside ever becomes one.
 */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const contentTypes: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.webp': 'image/webp',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
};

const securityHeaders = {
  'content-security-policy': contentSecurityPolicy,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
};

/**
 * @param root folder of the built screens, with `index.html`
 * @returns a function that answers one request for a file; it never rejects
 */
export function createStaticFiles(root: string): (request: Request) => Promise<Response> {
  return async (request) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405);
    const path = filePath(root, new URL(request.url).pathname);
    if (path === null) return plain(400);
    const type = contentTypes[extname(path).toLowerCase()];
    if (type === undefined) return plain(404);
    try {
      const bytes = await readFile(path);
      const headers = { ...securityHeaders, 'content-type': type, 'content-length': String(bytes.length) };
      return new Response(request.method === 'HEAD' ? null : new Uint8Array(bytes), { headers });
    } catch {
      return plain(404);
    }
  };
}

/**
 * The file that a URL path means, or null when the path is malformed or leads out of the folder.
 * A path without an ending is a screen: the single page decides what to show.
 */
export function filePath(root: string, pathname: string): string | null {
  let decoded: string;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    return null;
  }
  if (/[\\\0]/.test(decoded) || decoded.split('/').includes('..')) return null;
  const name = extname(decoded) === '' ? 'index.html' : decoded;
  const path = join(root, name);
  return path.startsWith(root.endsWith(sep) ? root : root + sep) ? path : null;
}

function plain(status: number): Response {
  return new Response(null, { status, headers: securityHeaders });
}
