/** How tests start the desktop app: on the stand-in, or on a real Electron named by REAL_ELECTRON. */
import { fileURLToPath } from 'node:url';
import { _electron, type ElectronApplication, type Page } from 'playwright-core';

export const standInExecutable = fileURLToPath(new URL('electron', import.meta.url));

export const usesRealElectron = process.env['REAL_ELECTRON'] !== undefined;

export interface LaunchOptions {
  /** Folder with the app's package.json; not needed for a packaged executable. */
  appFolder?: string;
  /** A packaged app's executable. */
  executablePath?: string;
  userData: string;
  env?: Record<string, string>;
}

/** The command line that starts the app, for tests that start it without Playwright. */
export function launchCommand(options: LaunchOptions): { executablePath: string; args: string[] } {
  const executablePath = options.executablePath ?? process.env['REAL_ELECTRON'] ?? standInExecutable;
  const folder = options.executablePath === undefined ? [options.appFolder ?? '.'] : [];
  return { executablePath, args: [...folder, `--user-data-dir=${options.userData}`] };
}

export function launchApp(options: LaunchOptions): Promise<ElectronApplication> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  return _electron.launch({ ...launchCommand(options), env: { ...env, ...options.env } });
}

/** The first window with the app's own page in it; windows are reported while they are still blank. */
export async function firstPage(app: ElectronApplication): Promise<Page> {
  const page = await app.firstWindow();
  await page.waitForURL((url) => url.protocol !== 'about:');
  await page.waitForLoadState();
  return page;
}
