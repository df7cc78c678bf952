/** Stands in for `BrowserWindow` and `WebContents`: each window is a page of the system's Chromium. */
import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import type { BrowserWindowConstructorOptions, WindowOpenHandlerResponse } from 'electron';
import type { CDPSession, Page } from 'playwright-core';
import type { StandInApp } from './app.ts';
import type { StandInBrowser } from './browser.ts';
import { preventable, record } from './context.ts';
import { session } from './desktop.ts';
import { ipcMain } from './ipc.ts';
import { bindingName, deliverName, type PageCall, pageScript } from './page-bridge.ts';
import { toAppUrl, toPageUrl } from './protocol.ts';

interface Host {
  app: StandInApp;
  browser: StandInBrowser;
}

let host: Host;
let firstPageTaken = false;

/** Has to be called before the app makes a window. */
export function hostWindows(given: Host): void {
  host = given;
}

type WindowOpenHandler = (details: { url: string }) => WindowOpenHandlerResponse;

export class WebContents extends EventEmitter {
  readonly id: number;
  readonly session = session.defaultSession;
  targetId = '';
  #page: Page | null = null;
  #isDestroyed = false;
  /** The app itself asked for this URL, which is no navigation by the page. */
  #ownLoad: string | null = null;
  #openHandler: WindowOpenHandler | null = null;
  readonly #opened: Promise<Page>;
  readonly #window: BrowserWindow;

  constructor(window: BrowserWindow, options: BrowserWindowConstructorOptions) {
    super();
    this.#window = window;
    this.id = window.id;
    this.#opened = this.#open(options);
  }

  async #open(options: BrowserWindowConstructorOptions): Promise<Page> {
    const context = await host.browser.context();
    const unused = firstPageTaken ? undefined : context.pages()[0];
    firstPageTaken = true;
    const page = unused ?? (await context.newPage());
    this.#page = page;
    const preload = options.webPreferences?.preload;
    await page.exposeBinding(bindingName, (source, call: PageCall) => {
      const frame = { url: toAppUrl(source.frame.url()), parent: source.frame.parentFrame() };
      return ipcMain.receive({ sender: this, senderFrame: frame }, call);
    });
    await page.addInitScript({
      content: pageScript(
        { platform: process.platform, versions: { electron: 'stand-in' } },
        preload === undefined ? '' : readFileSync(preload, 'utf8'),
      ),
    });
    await page.setViewportSize({ width: options.width ?? 800, height: options.height ?? 600 });
    await this.#watch(page, await context.newCDPSession(page));
    return page;
  }

  async #watch(page: Page, cdp: CDPSession): Promise<void> {
    const { targetInfo } = await cdp.send('Target.getTargetInfo');
    this.targetId = targetInfo.targetId;
    await cdp.send('Page.enable');
    // Only the debugging protocol still knows the URL that window.open asked for.
    cdp.on('Page.windowOpen', ({ url }) => {
      record('window.open', { url, answer: this.#openHandler?.({ url: toAppUrl(url) }) ?? null });
    });
    page.on('popup', (popup) => void popup.close().catch(() => {}));
    await cdp.send('Fetch.enable', { patterns: [{ resourceType: 'Document' }] });
    cdp.on('Fetch.requestPaused', ({ requestId, request }) => {
      const isRefused = this.#refusesNavigation(request.url);
      const sent = isRefused
        ? cdp.send('Fetch.failRequest', { requestId, errorReason: 'Aborted' })
        : cdp.send('Fetch.continueRequest', { requestId });
      sent.catch(() => {}); // The page may be gone meanwhile.
    });
    page.on('pageerror', (error) => record('page error', error.message));
    page.on('crash', () => this.emit('render-process-gone', preventable(), { reason: 'crashed' }));
    page.on('close', () => this.#window.gone());
    page.on('load', () => this.emit('did-finish-load'));
  }

  #refusesNavigation(url: string): boolean {
    if (url === this.#ownLoad) return false;
    const event = preventable({ url: toAppUrl(url) });
    this.emit('will-navigate', event, event.url);
    return event.defaultPrevented;
  }

  async loadURL(url: string): Promise<void> {
    const page = await this.#opened;
    this.#ownLoad = await toPageUrl(url);
    try {
      await page.goto(this.#ownLoad);
    } finally {
      this.#ownLoad = null;
    }
    this.#window.emit('ready-to-show');
  }

  setWindowOpenHandler(handler: WindowOpenHandler): void {
    this.#openHandler = handler;
  }
  getURL(): string {
    return toAppUrl(this.#page?.url() ?? '');
  }
  isDestroyed(): boolean {
    return this.#isDestroyed;
  }
  reload(): void {
    this.#page?.reload().catch(() => {});
  }
  send(channel: string, ...args: unknown[]): void {
    const deliver = ([name, to, values]: [string, string, unknown[]]) =>
      (window as unknown as Record<string, (channel: string, args: unknown[]) => void>)[name]?.(to, values);
    void this.#opened
      .then((page) => page.evaluate(deliver, [deliverName, channel, args] as [string, string, unknown[]]))
      .catch(() => {});
  }
  close(): void {
    this.#window.close();
  }
  /** The stand-in's own: the window is closing. */
  destroy(): void {
    this.#isDestroyed = true;
    this.#page?.close().catch(() => {});
    this.emit('destroyed');
  }
}

export class BrowserWindow extends EventEmitter {
  static readonly #all: BrowserWindow[] = [];
  static #nextId = 1;
  readonly id = BrowserWindow.#nextId++;
  readonly webContents: WebContents;
  readonly options: BrowserWindowConstructorOptions;
  #isVisible: boolean;

  constructor(options: BrowserWindowConstructorOptions = {}) {
    if (!host.app.isReady()) throw new Error('Cannot create BrowserWindow before app is ready');
    const { nodeIntegration, contextIsolation, sandbox } = options.webPreferences ?? {};
    if (nodeIntegration || contextIsolation === false || sandbox === false) {
      throw new Error('The stand-in only runs sandboxed, isolated pages');
    }
    super();
    this.options = options;
    this.#isVisible = options.show !== false;
    this.webContents = new WebContents(this, options);
    BrowserWindow.#all.push(this);
    host.app.emit('browser-window-created', preventable(), this);
    host.app.emit('web-contents-created', preventable(), this.webContents);
  }

  static getAllWindows = (): BrowserWindow[] => [...BrowserWindow.#all];
  static fromWebContents = (contents: WebContents): BrowserWindow | null =>
    BrowserWindow.#all.find((window) => window.webContents === contents) ?? null;

  loadURL = (url: string): Promise<void> => this.webContents.loadURL(url);
  show(): void {
    this.#isVisible = true;
    this.emit('show');
  }
  hide(): void {
    this.#isVisible = false;
    this.emit('hide');
  }
  focus(): void {
    this.emit('focus');
  }
  restore(): void {
    this.emit('restore');
  }
  isVisible = (): boolean => this.#isVisible;
  isMinimized = (): boolean => false;
  isDestroyed = (): boolean => this.webContents.isDestroyed();
  getTitle = (): string => this.options.title ?? '';

  /** Asks the app as Electron does; a listener of `close` may refuse. */
  close(): void {
    const event = preventable();
    this.emit('close', event);
    if (!event.defaultPrevented) this.gone();
  }

  /** The stand-in's own: the window has closed, whoever closed it. */
  gone(): void {
    if (this.isDestroyed()) return;
    BrowserWindow.#all.splice(BrowserWindow.#all.indexOf(this), 1);
    this.webContents.destroy();
    this.emit('closed');
    if (BrowserWindow.#all.length > 0 || host.app.isQuitting) return;
    if (host.app.listenerCount('window-all-closed') === 0) host.app.quit();
    else host.app.emit('window-all-closed');
  }
}

/** @returns false when a window refused to close */
export function closeAllWindows(): boolean {
  for (const window of BrowserWindow.getAllWindows()) window.close();
  return BrowserWindow.getAllWindows().length === 0;
}

export const webContents = {
  getAllWebContents: () => BrowserWindow.getAllWindows().map((window) => window.webContents),
  fromDevToolsTargetId: (id: string) =>
    webContents.getAllWebContents().find((contents) => contents.targetId === id),
};
