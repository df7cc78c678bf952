/** Stands in for `ipcMain`. */
import { EventEmitter } from 'node:events';
import type { PageAnswer, PageCall } from './page-bridge.ts';

type Handler = (event: unknown, ...args: unknown[]) => unknown;

class IpcMain extends EventEmitter {
  readonly #handlers = new Map<string, Handler>();

  handle(channel: string, handler: Handler): void {
    if (this.#handlers.has(channel)) {
      throw new Error(`Attempted to register a second handler for '${channel}'`);
    }
    this.#handlers.set(channel, handler);
  }

  removeHandler(channel: string): void {
    this.#handlers.delete(channel);
  }

  /** One call from a page; `event` is what the app's handler sees of the sender. */
  async receive(event: object, { kind, channel, args }: PageCall): Promise<PageAnswer> {
    if (kind === 'send') {
      this.emit(channel, event, ...args);
      return { value: undefined };
    }
    const handler = this.#handlers.get(channel);
    if (handler === undefined) return { error: `Error: No handler registered for '${channel}'` };
    try {
      return { value: structuredClone(await handler(event, ...args)) };
    } catch (error) {
      return { error: String(error) };
    }
  }
}

export const ipcMain = new IpcMain();
