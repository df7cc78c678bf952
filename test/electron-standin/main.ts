/**
 * Stand-in for the Electron binary, for tests only (see README.md): runs an app's real main bundle on plain
 * Node with a module `electron` of its own.
 *
 *   node main.ts <app folder> [arguments]
 *   STANDIN_RESOURCES=<resources folder of a packaged app> node main.ts [arguments]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import inspector from 'node:inspector';
import { registerHooks } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { extractAll } from '@electron/asar';
import { StandInApp } from './app.ts';
import { createBrowser } from './browser.ts';
import { calls, readStartOptions } from './context.ts';
import { dialog, Menu, MenuItem, Notification, nativeImage, session, shell, Tray } from './desktop.ts';
import { ipcMain } from './ipc.ts';
import { protocol, protocolIsReady } from './protocol.ts';
import { BrowserWindow, closeAllWindows, hostWindows, webContents } from './windows.ts';

const resources = process.env['STANDIN_RESOURCES'];
delete process.env['STANDIN_RESOURCES'];
const options = readStartOptions(process.argv.slice(2), resources === undefined ? null : unpack(resources));
const app = new StandInApp(options);
const browser = createBrowser(options.userData);
app.hooks = { closeWindows: closeAllWindows, dispose: browser.close };
hostWindows({ app, browser });

Object.assign(process, { type: 'browser', resourcesPath: options.resources, argv: options.argv });
const electron = {
  app,
  BrowserWindow,
  dialog,
  ipcMain,
  Menu,
  MenuItem,
  nativeImage,
  Notification,
  protocol,
  session,
  shell,
  Tray,
  webContents,
};
provideElectron(
  { ...electron, standIn: { calls, trays: Tray.all, notices: Notification.shown } },
  Object.keys(electron),
);

process.on('uncaughtException', (error) => {
  if (app.isQuitting) return;
  process.stderr.write(`main process: ${error.stack}\n`);
  app.exit(1);
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  // Electron quits on these unless the app has its own handler.
  process.on(signal, () => app.quit());
}
if (options.isDriven) await announceToPlaywright();
await import(pathToFileURL(options.entry).href);
protocolIsReady();
setImmediate(() => app.becomeReady());

/** Plain Node cannot read app.asar, so a copy is unpacked; `app.asar.unpacked` is used where it is. */
function unpack(folder: string): { resources: string; appFolder: string } {
  const appFolder = mkdtempSync(join(tmpdir(), 'standin-asar-'));
  process.once('exit', () => rmSync(appFolder, { recursive: true, force: true }));
  extractAll(join(folder, 'app.asar'), appFolder);
  return { resources: folder, appFolder };
}

/** `import … from 'electron'` and Playwright's `require('electron')` get the stand-in. */
function provideElectron(module: object, names: string[]): void {
  const key = Symbol.for('anneal.electron-standin');
  (globalThis as Record<symbol, unknown>)[key] = module;
  const value = 'globalThis[Symbol.for("anneal.electron-standin")]';
  const sources: Record<string, string> = {
    'standin:module': `const e = ${value}; export default e; export const { ${names.join(', ')} } = e;`,
    'standin:commonjs': `module.exports = ${value};`,
  };
  registerHooks({
    resolve: (specifier, context, next) => {
      if (specifier !== 'electron' && specifier !== 'electron/main') return next(specifier, context);
      const format = context.conditions.includes('import') ? 'module' : 'commonjs';
      return { url: `standin:${format}`, format, shortCircuit: true };
    },
    load: (url, context, next) => {
      const source = sources[url];
      if (source === undefined) return next(url, context);
      return { source, format: url.slice('standin:'.length) as 'module' | 'commonjs', shortCircuit: true };
    },
  });
}

/** Playwright's Electron driver waits for these two lines on standard error. */
async function announceToPlaywright(): Promise<void> {
  inspector.open(0);
  process.stderr.write(`DevTools listening on ${await browser.debuggerUrl()}\n`);
}
