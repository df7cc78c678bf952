import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AgentProcess, startAgentProcess } from '../../core/agent/agent-process.ts';
import { createAgentProxy } from '../../electron/main/agent-proxy.ts';

const agentFile = fileURLToPath(new URL('../fixtures/shell/agent.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'anneal-proxy-'));
const socketPath =
  process.platform === 'win32' ? '\\\\.\\pipe\\anneal-proxy-test' : join(folder, 'agent.sock');
let agent: AgentProcess;

beforeAll(
  () =>
    new Promise<void>((resolve) => {
      agent = startAgentProcess({
        nodePath: process.execPath,
        args: [agentFile, '--socket', socketPath],
        onReady: () => resolve(),
        log: () => {},
      });
    }),
);

afterAll(async () => {
  await agent.stop(2_000);
  rmSync(folder, { recursive: true, force: true });
});

const proxy = createAgentProxy({ whenReady: async () => socketPath, maxBodyBytes: 1000 });

describe('agent proxy', () => {
  it('passes a call on with its body, and drops what is not for the agent', async () => {
    const request = new Request('app://anneal/trpc/site.import?batch=1', {
      method: 'POST',
      body: '{"a":1}',
      headers: { 'content-type': 'application/json', authorization: 'Bearer x', 'x-other': 'y' },
    });

    const response = await proxy(request);
    const seen = (await response.json()) as { headers: Record<string, string> };

    expect(seen).toMatchObject({ method: 'POST', url: '/trpc/site.import?batch=1', body: '{"a":1}' });
    expect(Object.keys(seen.headers).sort()).toEqual([
      'connection',
      'content-length',
      'content-type',
      'host',
      'x-anneal-screens',
    ]);
    expect(response.headers.get('set-cookie')).toBeNull();
  });

  it('keeps the session cookie for the page, until the agent takes it away; a page sends none of its own', async () => {
    const fresh = createAgentProxy({ whenReady: async () => socketPath });
    const cookieAt = async (path: string, headers = {}) => {
      const response = await fresh(new Request(`app://anneal/trpc/${path}`, { headers }));
      expect(response.headers.get('set-cookie')).toBeNull();
      return ((await response.json()) as { headers: Record<string, string> }).headers['cookie'];
    };

    const first = await cookieAt('a', { cookie: 'secret=forged' });
    const second = await cookieAt('a');
    const last = await cookieAt('sign-out');
    const after = await cookieAt('a');

    expect([first, second, last, after]).toEqual([undefined, 'secret=1', 'secret=1', undefined]);
  });

  it('streams events while they happen, and hangs up when the page does', async () => {
    const aborted = new AbortController();
    const request = new Request('app://anneal/trpc/events', { signal: aborted.signal });

    const response = await proxy(request);
    const reader = response.body!.getReader();
    const first = new TextDecoder().decode((await reader.read()).value);
    await reader.cancel();

    expect(response.headers.get('content-type')).toBe('text/event-stream');
    expect(first).toContain('data: 0');
    const closedStreams = async () =>
      ((await (await proxy(new Request('app://anneal/trpc/x'))).json()) as { streamsClosed: number })
        .streamsClosed;
    await expect.poll(closedStreams).toBe(1);
  });

  it('waits for an agent that is not listening yet', async () => {
    let asked = 0;
    const late = createAgentProxy({
      whenReady: async () => (++asked < 3 ? join(folder, 'not-there-yet.sock') : socketPath),
    });

    const response = await late(new Request('app://anneal/trpc/status'));

    expect(response.status).toBe(200);
    expect(asked).toBe(3);
  });

  it("answers like the agent's own errors when there is no agent", async () => {
    const none = createAgentProxy({
      whenReady: async () => join(folder, 'nobody.sock'),
      waitMs: 150,
    });

    const response = await none(new Request('app://anneal/trpc/status'));

    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({
      error: { data: { httpStatus: 503, report: { code: 'AGENT_UNREACHABLE' } } },
    });
  });

  it('refuses what is too large and methods the API does not have', async () => {
    const large = new Request('app://anneal/trpc/x', { method: 'POST', body: 'x'.repeat(1001) });
    const strange = new Request('app://anneal/trpc/x', { method: 'DELETE' });

    expect((await proxy(large)).status).toBe(400);
    expect((await proxy(strange)).status).toBe(405);
  });
});
