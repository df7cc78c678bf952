/** What the parts of the stand-in share: how it was started, and what was only recorded. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

const packageFile = z.object({
  name: z.string(),
  productName: z.string().optional(),
  version: z.string(),
  main: z.string(),
});

export interface StartOptions {
  /** Folder with the app's package.json. */
  appFolder: string;
  isPackaged: boolean;
  resources: string;
  name: string;
  version: string;
  /** Path of the main bundle. */
  entry: string;
  /** The arguments as the app sees them. */
  argv: string[];
  userData: string;
  /** Playwright drives this run and waits for its two lines. */
  isDriven: boolean;
}

/** Switches that Playwright adds for Electron itself. */
const forElectron = new Set(['--no-sandbox', '--inspect=0', '--remote-debugging-port=0']);

/**
 * @param args arguments after the program's name
 * @param packaged resources folder of a packaged app and the copy of its app.asar, or null in development
 */
export function readStartOptions(
  args: string[],
  packaged: { resources: string; appFolder: string } | null,
): StartOptions {
  const rest = args.filter((argument) => !forElectron.has(argument));
  const folderAt = rest.findIndex((argument) => !argument.startsWith('-'));
  const given = packaged === null && folderAt >= 0 ? rest.splice(folderAt, 1)[0]! : '.';
  const appFolder = packaged?.appFolder ?? resolve(given);
  const file = packageFile.parse(JSON.parse(readFileSync(join(appFolder, 'package.json'), 'utf8')));
  const name = file.productName ?? file.name;
  const prefix = '--user-data-dir=';
  const chosen = rest.find((argument) => argument.startsWith(prefix))?.slice(prefix.length);
  const configHome = process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config');
  return {
    appFolder,
    isPackaged: packaged !== null,
    resources: packaged?.resources ?? join(appFolder, 'node_modules/electron/dist/resources'),
    name,
    version: file.version,
    entry: join(appFolder, file.main),
    argv: [process.execPath, ...(packaged === null ? [appFolder] : []), ...rest],
    userData: chosen ?? join(configHome, name),
    isDriven: args.includes('--inspect=0'),
  };
}

export interface RecordedCall {
  what: string;
  details: unknown;
}

/** What the app asked of the desktop, in order; tests read it as `standIn.calls`. */
export const calls: RecordedCall[] = [];

export function record(what: string, details: unknown = null): void {
  calls.push({ what, details: JSON.parse(JSON.stringify(details ?? null)) });
}

/** An event that a listener may prevent, as Electron's are. */
export interface PreventableEvent {
  defaultPrevented: boolean;
  preventDefault(): void;
}

export function preventable<T extends object>(details: T): T & PreventableEvent;
export function preventable(): PreventableEvent;
export function preventable(details: object = {}): PreventableEvent {
  const event = {
    ...details,
    defaultPrevented: false,
    preventDefault: () => {
      event.defaultPrevented = true;
    },
  };
  return event;
}
