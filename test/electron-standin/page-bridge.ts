/**
 * Runs inside the page before its own scripts: gives the real preload script the `electron` that a sandboxed
 * preload has. Playwright sends the text of `installPageBridge`, so it must not use anything outside itself.
 *
 * Electron runs a preload script in a JavaScript world of its own; here it shares the page's world inside a
 * function. What crosses is copied and frozen as contextBridge does, but isolation itself is not imitated.
 */

/** One call from the page to the main process. */
export interface PageCall {
  kind: 'invoke' | 'send';
  channel: string;
  args: unknown[];
}

export type PageAnswer = { value: unknown } | { error: string };

/** Names that the stand-in needs in the page; tests that look for leaked names leave them out. */
export const bindingName = '__electronStandInCall';
export const deliverName = '__electronStandInDeliver';

export interface PageInfo {
  platform: string;
  versions: Record<string, string | undefined>;
  binding: string;
  deliver: string;
}

type Preload = (require: (name: string) => unknown, process: object, module: object, exports: object) => void;
type Listener = (event: object, ...args: unknown[]) => void;

export function installPageBridge(info: PageInfo, preload: Preload): void {
  if (window !== window.top || location.protocol === 'about:') return;
  const page = window as unknown as Record<string, unknown>;
  const call = page[info.binding] as (message: PageCall) => Promise<PageAnswer>;
  delete page[info.binding];
  const listeners = new Map<string, Set<Listener>>();

  const ipcRenderer = {
    invoke: async (channel: string, ...args: unknown[]) => {
      const answer = await call({ kind: 'invoke', channel, args: structuredClone(args) });
      if ('error' in answer) throw new Error(`Error invoking remote method '${channel}': ${answer.error}`);
      return answer.value;
    },
    send: (channel: string, ...args: unknown[]) => {
      void call({ kind: 'send', channel, args: structuredClone(args) });
    },
    on: (channel: string, listener: Listener) => {
      const known = listeners.get(channel) ?? new Set();
      listeners.set(channel, known.add(listener));
      return ipcRenderer;
    },
    removeListener: (channel: string, listener: Listener) => {
      listeners.get(channel)?.delete(listener);
      return ipcRenderer;
    },
  };
  Object.defineProperty(window, info.deliver, {
    value: (channel: string, args: unknown[]) => {
      for (const listener of listeners.get(channel) ?? []) listener({ sender: ipcRenderer }, ...args);
    },
  });

  /** Copies data, wraps functions, drops prototypes: what contextBridge lets through. */
  const cross = (value: unknown): unknown => {
    if (typeof value === 'function') {
      return async (...args: unknown[]) => cross(await value(...args.map(cross)));
    }
    if (Array.isArray(value)) return value.map(cross);
    if (value === null || typeof value !== 'object') return value;
    if (Object.prototype.toString.call(value) !== '[object Object]') return structuredClone(value);
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, cross(entry)]));
  };
  const freeze = (value: unknown): unknown => {
    if (value !== null && typeof value === 'object') {
      for (const entry of Object.values(value)) freeze(entry);
      Object.freeze(value);
    }
    return value;
  };
  const contextBridge = {
    exposeInMainWorld: (key: string, api: unknown) => {
      if (key in window)
        throw new Error('Cannot bind an API on top of an existing property on the window object');
      Object.defineProperty(window, key, { value: freeze(cross(api)), enumerable: true });
    },
  };

  const electron = { contextBridge, ipcRenderer };
  const require = (name: string) => {
    if (name === 'electron' || name === 'electron/renderer') return electron;
    throw new Error(`module not found: ${name}`); // A sandboxed preload has no other module of ours.
  };
  const process = {
    platform: info.platform,
    versions: info.versions,
    sandboxed: true,
    contextIsolated: true,
  };
  const module = { exports: {} };
  preload(require, process, module, module.exports);
}

/** The script to run before every document. */
export function pageScript(info: Omit<PageInfo, 'binding' | 'deliver'>, preloadSource: string): string {
  const all: PageInfo = { ...info, binding: bindingName, deliver: deliverName };
  return `(${installPageBridge.toString()})(${JSON.stringify(all)}, (require, process, module, exports) => {\n${preloadSource}\n})`;
}
