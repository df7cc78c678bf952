/** Stands in for `app`: life cycle, paths and the single-instance lock. */
import { EventEmitter } from 'node:events';
import { mkdirSync, readFileSync, rmSync, unwatchFile, watchFile, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { preventable, record, type StartOptions } from './context.ts';

export interface AppHooks {
  /** Closes every window; false when one of them refused. */
  closeWindows(): boolean;
  /** Releases the browser before the process ends. */
  dispose(): Promise<void>;
}

const secondStart = z.object({ argv: z.array(z.string()), cwd: z.string() });

export class StandInApp extends EventEmitter {
  readonly isPackaged: boolean;
  readonly commandLine = {
    appendSwitch: (name: string, value?: string) => record('commandLine.appendSwitch', { name, value }),
    hasSwitch: () => false,
    getSwitchValue: () => '',
  };
  hooks: AppHooks = { closeWindows: () => true, dispose: async () => {} };
  readonly #options: StartOptions;
  readonly #ready = Promise.withResolvers<void>();
  #isReady = false;
  #isQuitting = false;

  constructor(options: StartOptions) {
    super();
    this.#options = options;
    this.isPackaged = options.isPackaged;
  }

  whenReady = (): Promise<void> => this.#ready.promise;
  isReady = (): boolean => this.#isReady;
  getName = (): string => this.#options.name;
  getVersion = (): string => this.#options.version;
  getAppPath = (): string => this.#options.appFolder;
  getLocale = (): string => 'en-US';
  enableSandbox = (): void => record('app.enableSandbox');
  setAppUserModelId = (id: string): void => record('app.setAppUserModelId', id);

  getPath(name: string): string {
    const { userData } = this.#options;
    const paths: Record<string, string> = {
      home: homedir(),
      temp: tmpdir(),
      exe: process.execPath,
      userData,
      sessionData: userData,
      logs: join(userData, 'logs'),
    };
    const path = paths[name];
    if (path === undefined) throw new Error(`Failed to get '${name}' path`);
    return path;
  }

  /** The stand-in's own: the main script has run. */
  becomeReady(): void {
    if (this.#isQuitting) return;
    this.#isReady = true;
    this.#ready.resolve();
    this.emit('ready', preventable(), {});
  }

  requestSingleInstanceLock(): boolean {
    const { userData, argv } = this.#options;
    mkdirSync(userData, { recursive: true, mode: 0o700 });
    const lock = join(userData, 'standin-lock');
    const mailbox = join(userData, 'standin-second-start');
    if (isHeldByAnother(lock)) {
      writeFileSync(mailbox, JSON.stringify({ argv, cwd: process.cwd() }));
      return false;
    }
    writeFileSync(lock, String(process.pid));
    process.once('exit', () => {
      unwatchFile(mailbox);
      rmSync(lock, { force: true });
    });
    watchFile(mailbox, { interval: 100, persistent: false }, ({ size }) => {
      if (size === 0) return;
      const { argv: theirs, cwd } = secondStart.parse(JSON.parse(readFileSync(mailbox, 'utf8')));
      rmSync(mailbox);
      this.emit('second-instance', preventable(), theirs, cwd, null);
    });
    return true;
  }

  quit(): void {
    if (this.#isQuitting) return;
    const event = preventable();
    this.emit('before-quit', event);
    if (event.defaultPrevented) return;
    this.#isQuitting = true;
    setImmediate(() => {
      const willQuit = preventable();
      if (this.hooks.closeWindows()) this.emit('will-quit', willQuit);
      else willQuit.preventDefault();
      if (willQuit.defaultPrevented) this.#isQuitting = false;
      else this.exit(0);
    });
  }

  exit(code = 0): void {
    this.#isQuitting = true;
    this.emit('quit', preventable(), code);
    void this.hooks.dispose().finally(() => process.exit(code));
  }

  get isQuitting(): boolean {
    return this.#isQuitting;
  }
}

function isHeldByAnother(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, 'utf8'));
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch {
    return false; // No lock, or its owner is gone.
  }
}
