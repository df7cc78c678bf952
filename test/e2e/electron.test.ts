/**
 * The desktop app as a whole: real main bundle, real preload, real screens, real agent. Runs on the stand-in
 * for Electron, or on a real one: `REAL_ELECTRON=/path/to/electron npx vitest run test/e2e/electron.test.ts`.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BrowserWindow, Session } from 'electron';
import type { ElectronApplication, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt } from '../../build/ensure-built.ts';
import { firstPage, launchApp, launchCommand, usesRealElectron } from '../electron-standin/launch.ts';
import { descendantsOf, isRunning } from '../fixtures/shell/processes.ts';

const appFolder = fileURLToPath(new URL('../..', import.meta.url));
const userData = mkdtempSync(join(tmpdir(), 'anneal-shell-'));
let app: ElectronApplication;
let page: Page;

beforeAll(async () => {
  await ensureBuilt();
  app = await launchApp({ appFolder, userData });
  page = await firstPage(app);
});

afterAll(async () => {
  await app?.close();
  rmSync(userData, { recursive: true, force: true, maxRetries: 5 });
});

/** The agents that the shell has started, in order. */
function agentPids(folder = userData): number[] {
  const log = readFileSync(join(folder, 'logs/shell.log'), 'utf8');
  return [...log.matchAll(/agent started \(pid (\d+)\)/g)].map((match) => Number(match[1]));
}

async function windowIsVisible(): Promise<boolean> {
  return app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.isVisible() ?? false);
}

async function closeWindow(): Promise<void> {
  await app.evaluate(({ BrowserWindow }) => (BrowserWindow.getAllWindows()[0] as BrowserWindow).close());
}

/** Starts the app a second time, without Playwright, and waits for its end. */
function startAgain(): Promise<number | null> {
  const { executablePath, args } = launchCommand({ appFolder, userData });
  const second = spawn(executablePath, args, { stdio: 'ignore' });
  return new Promise((resolve) => second.once('exit', resolve));
}

async function statusFromPage(): Promise<{ status: number; mode: unknown }> {
  return page.evaluate(async () => {
    const response = await fetch('/trpc/status');
    const body = await response.json();
    return { status: response.status, mode: body.result?.data?.mode };
  });
}

describe('the desktop app', () => {
  it('shows the first screen, filled by its own agent', async () => {
    await page.getByText('What is this installation for?').waitFor();

    expect(await page.title()).toBe('Anneal');
    expect(await statusFromPage()).toEqual({ status: 200, mode: 'unset' });
    expect(await windowIsVisible()).toBe(true);
  });

  it('gives the page nothing but window.anneal', async () => {
    const seen = await page.evaluate(() => {
      const frame = document.body.appendChild(document.createElement('iframe'));
      const usual = new Set(Object.getOwnPropertyNames(frame.contentWindow));
      frame.remove();
      // A global that the page's own scripts made would be a mistake as well.
      const added = Object.getOwnPropertyNames(window).filter((name) => !usual.has(name));
      return { added, anneal: Object.keys(window.anneal ?? {}), frozen: Object.isFrozen(window.anneal) };
    });

    const fromTests = /^__(playwright|pw|electronStandIn)/;
    // Numbered names are frames; __zod_globalConfig is the screens' own library.
    expect(
      seen.added.filter((name) => !fromTests.test(name) && !/^(\d+|__zod_globalConfig)$/.test(name)),
    ).toEqual(['anneal']);
    expect(seen.anneal.sort()).toEqual([
      ...['chooseFile', 'chooseFolder', 'chooseNewFile', 'noticeApproval', 'platform'],
    ]);
    expect(seen.frozen).toBe(true);
  });

  it('streams the agent’s events to the page', async () => {
    const opened = await page.evaluate(
      () =>
        new Promise<boolean>((resolve) => {
          const source = new EventSource('/trpc/events');
          source.onopen = () => {
            source.close();
            resolve(true);
          };
          source.onerror = () => resolve(false);
        }),
    );

    expect(opened).toBe(true);
  });

  it('runs no inline script and talks to nobody else', async () => {
    const seen = await page.evaluate(async () => {
      const violations: string[] = [];
      document.addEventListener('securitypolicyviolation', (event) =>
        violations.push(event.effectiveDirective),
      );
      const script = document.createElement('script');
      script.textContent = 'window.inlineScriptRan = true';
      document.body.append(script);
      script.remove();
      const reached = await fetch('https://example.invalid/').then(
        () => true,
        () => false,
      );
      await new Promise((resolve) => setTimeout(resolve, 100));
      return { violations, reached, ran: 'inlineScriptRan' in window };
    });

    expect(seen.ran).toBe(false);
    expect(seen.reached).toBe(false);
    expect(seen.violations).toContain('script-src-elem');
    expect(seen.violations).toContain('connect-src');
  });

  it('opens no second window and does not leave its own page', async () => {
    const before = page.url();

    await page.evaluate(() => {
      window.open('https://example.invalid/');
      const link = document.createElement('a');
      link.href = 'https://example.invalid/';
      document.body.append(link);
      link.click();
      link.remove();
    });
    await page.waitForTimeout(500);

    await expect.poll(() => app.windows().length).toBe(1);
    expect(page.url()).toBe(before);
    expect(await page.title()).toBe('Anneal');
    if (!usesRealElectron) {
      const answers = await app.evaluate((electron) =>
        (
          electron as unknown as { standIn: { calls: { what: string; details: { answer: unknown } }[] } }
        ).standIn.calls
          .filter((call) => call.what === 'window.open')
          .map((call) => call.details.answer),
      );
      expect(answers).toEqual([{ action: 'deny' }]);
    }
  });

  it('grants no permission but writing to the clipboard', async () => {
    if (usesRealElectron) {
      const state = await page.evaluate(
        async () => (await navigator.permissions.query({ name: 'geolocation' })).state,
      );
      expect(state).toBe('denied');
      return;
    }
    const answers = await app.evaluate(({ session }) => {
      const { permissionCheckHandler } = session.defaultSession as unknown as {
        permissionCheckHandler: NonNullable<Parameters<Session['setPermissionCheckHandler']>[0]>;
      };
      const ask = (permission: 'media' | 'clipboard-sanitized-write', origin: string) =>
        permissionCheckHandler(null, permission, origin, { isMainFrame: true, requestingUrl: origin });
      return [
        ask('media', 'app://anneal/'),
        ask('clipboard-sanitized-write', 'app://anneal/'),
        ask('clipboard-sanitized-write', 'https://example.invalid/'),
      ];
    });

    expect(answers).toEqual([false, true, false]);
  });

  it('opens the dialogs that the page asks for in the right way only', async () => {
    await app.evaluate(({ dialog }) => {
      dialog.showOpenDialog = (async (_window: unknown, options: { properties: string[] }) => ({
        canceled: false,
        filePaths: [`/chosen/${options.properties.join()}`],
      })) as unknown as typeof dialog.showOpenDialog;
      dialog.showSaveDialog = (async (
        _window: unknown,
        options: { filters: { extensions: string[] }[] },
      ) => ({
        canceled: false,
        filePath: `/new/file.${options.filters[0]!.extensions[0]}`,
      })) as unknown as typeof dialog.showSaveDialog;
    });

    const answers = await page.evaluate(async () => {
      const bridge = (
        window as unknown as { anneal: Record<string, (...args: unknown[]) => Promise<unknown>> }
      ).anneal;
      const refusal = (answer: Promise<unknown>) => answer.then(String, (error: Error) => error.message);
      return [
        await bridge['chooseFolder']!(),
        await bridge['chooseFile']!([{ name: 'Tables', extensions: ['csv'] }]),
        await refusal(bridge['chooseFile']!([{ name: 'Tables', extensions: ['../csv'] }])),
        await refusal(bridge['chooseFile']!('no list')),
        await bridge['chooseNewFile']!([{ name: 'FHIR JSON', extensions: ['json'] }]),
        await refusal(bridge['chooseNewFile']!([{ name: 'FHIR JSON', extensions: ['../json'] }])),
      ];
    });

    expect(answers.slice(0, 2)).toEqual(['/chosen/openDirectory', '/chosen/openFile']);
    expect(answers[2]).toContain('The request to the desktop was malformed');
    expect(answers[3]).toContain('The request to the desktop was malformed');
    expect(answers[4]).toBe('/new/file.json');
    expect(answers[5]).toContain('The request to the desktop was malformed');
  });

  it.skipIf(usesRealElectron)(
    'says in words of its own that a run asks, and a click shows the window',
    async () => {
      // The preload script passes no words on.
      await page.evaluate(() =>
        (window.anneal as unknown as { noticeApproval(words: string): Promise<void> }).noticeApproval(
          'P0001',
        ),
      );
      await closeWindow();

      const shown = await app.evaluate((electron) => {
        const { notices } = (
          electron as unknown as {
            standIn: { notices: { options: unknown; emit(event: 'click'): void }[] };
          }
        ).standIn;
        notices.at(-1)?.emit('click');
        return notices.map(({ options }) => options);
      });

      expect(shown).toEqual([{ title: 'Anneal', body: 'A run asks for approval.' }]);
      await expect.poll(windowIsVisible).toBe(true);
    },
  );

  it('goes on in the background when its window is closed, and a second start shows it again', async () => {
    await closeWindow();
    const hidden = !(await windowIsVisible());

    const code = await startAgain();

    expect(hidden).toBe(true);
    expect(code).toBe(0);
    await expect.poll(windowIsVisible, { timeout: 10_000 }).toBe(true);
    expect(agentPids()).toHaveLength(1);
  });

  it('starts its agent again after kill -9, and the page goes on', async () => {
    const killed = agentPids().at(-1)!;

    process.kill(killed, 'SIGKILL');
    await expect.poll(() => agentPids().length, { timeout: 15_000 }).toBe(2);

    // No reload: a call made while there is no agent waits for the next one.
    expect(await statusFromPage()).toEqual({ status: 200, mode: 'unset' });
    expect(isRunning(killed)).toBe(false);
  });

  it('leaves no process behind when it quits', async () => {
    const main = app.process().pid!;
    const all = [main, ...descendantsOf(main), agentPids().at(-1)!];

    await app.close();

    await expect.poll(() => all.filter(isRunning), { timeout: 15_000 }).toEqual([]);
  });
});

describe('a shell that is killed', () => {
  it('takes its agent with it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'anneal-killed-'));
    const killed = await launchApp({ appFolder, userData: folder });
    await (await firstPage(killed)).getByText('What is this installation for?').waitFor();
    const agent = agentPids(folder).at(-1)!;

    const main = killed.process().pid!;
    const all = [main, agent, ...descendantsOf(main)];

    process.kill(main, 'SIGKILL');

    await expect.poll(() => all.filter(isRunning), { timeout: 15_000 }).toEqual([]);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
});
