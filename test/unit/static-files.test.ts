import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { contentSecurityPolicy, createStaticFiles, filePath } from '../../electron/main/static-files.ts';

const parent = mkdtempSync(join(tmpdir(), 'anneal-static-'));
const root = join(parent, 'renderer');

beforeAll(() => {
  mkdirSync(join(root, 'assets'), { recursive: true });
  writeFileSync(join(root, 'index.html'), '<title>Anneal</title>');
  writeFileSync(join(root, 'assets/a.js'), 'export {}');
  writeFileSync(join(root, 'assets/data.bin'), 'x');
  writeFileSync(join(parent, 'secret.txt'), 'secret');
  mkdirSync(join(parent, 'renderer-other'));
  writeFileSync(join(parent, 'renderer-other/a.js'), 'secret');
});

afterAll(() => rmSync(parent, { recursive: true, force: true }));

const serve = createStaticFiles(root);
const get = (path: string) => serve(new Request(`app://anneal${path}`));

describe('static files', () => {
  it('serves the page for its address and for every screen', async () => {
    for (const path of ['/', '/index.html', '/site/dataset']) {
      const response = await get(path);

      expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
      expect(await response.text()).toBe('<title>Anneal</title>');
    }
  });

  it('sends a policy that allows no script but our files, with every answer', async () => {
    for (const path of ['/', '/assets/a.js', '/missing.js']) {
      expect((await get(path)).headers.get('content-security-policy')).toBe(contentSecurityPolicy);
    }
    expect(contentSecurityPolicy).toContain("script-src 'self';");
    expect(contentSecurityPolicy).toContain("default-src 'none'");
  });

  it('serves scripts as scripts, and no type it does not know', async () => {
    expect((await get('/assets/a.js')).headers.get('content-type')).toBe('text/javascript; charset=utf-8');
    expect((await get('/assets/data.bin')).status).toBe(404);
    expect((await get('/missing.js')).status).toBe(404);
  });

  it.each([
    '/..%2fsecret.txt',
    '/assets/..%2f..%2fsecret.txt',
    '/..%5csecret.txt',
    '/%00.js',
    '/..%2frenderer-other/a.js',
    '/%E0%A4%A.js',
  ])('refuses %s', async (path) => {
    expect((await get(path)).status).toBe(400);
    expect(filePath(root, path)).toBeNull();
  });

  it('stays inside when the address itself was shortened', async () => {
    // The URL parser has taken the dots away already.
    expect((await get('/../secret.txt')).status).toBe(404);
    expect((await get('/%2e%2e/secret.txt')).status).toBe(404);
  });

  it('answers reading methods only', async () => {
    const post = await serve(new Request('app://anneal/', { method: 'POST', body: 'x' }));
    const head = await serve(new Request('app://anneal/', { method: 'HEAD' }));

    expect(post.status).toBe(405);
    expect(head.status).toBe(200);
    expect(await head.text()).toBe('');
  });
});
