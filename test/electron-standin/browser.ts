/** The system's Chromium, whose pages stand in for Electron's windows. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';

export interface StandInBrowser {
  context(): Promise<BrowserContext>;
  /** Chromium's debugging address, which Playwright's Electron driver wants to know. */
  debuggerUrl(): Promise<string>;
  close(): Promise<void>;
}

/** @param userData the app's own folder, where Electron keeps its profile too */
export function createBrowser(userData: string): StandInBrowser {
  const profile = join(userData, 'standin-chromium');
  let started: Promise<BrowserContext> | null = null;
  const context = () => {
    started ??= launch(profile);
    return started;
  };
  return {
    context,
    debuggerUrl: async () => {
      await context();
      const [port, path] = readFileSync(join(profile, 'DevToolsActivePort'), 'utf8').trim().split('\n');
      return `ws://127.0.0.1:${port}${path}`;
    },
    close: async () => {
      if (started === null) return; // The profile of a first instance is not this one's to remove.
      await started.then((opened) => opened.close()).catch(() => {});
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function launch(profile: string): Promise<BrowserContext> {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env['STANDIN_CHROMIUM'] ?? '/usr/bin/chromium',
    headless: process.env['STANDIN_HEADED'] !== '1',
    viewport: null,
    // Chromium's own sandbox refuses to run as root, which containers do.
    chromiumSandbox: process.getuid?.() !== 0,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    args: [
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
      '--remote-debugging-port=0',
    ],
  });
  context.setDefaultTimeout(0);
  return context;
}
