/** Answers the preload script's calls. Nothing of a call is believed before it was checked. */
import {
  BrowserWindow,
  dialog,
  type IpcMainInvokeEvent,
  ipcMain,
  Notification,
  type OpenDialogOptions,
} from 'electron';
import { z } from 'zod';
import { AppError } from '../../core/shared/errors.ts';
import { bridgeChannels } from '../preload/bridge.ts';
import { isAppUrl } from './app-protocol.ts';

const noArguments = z.tuple([]);
const fileArguments = z.tuple([
  z
    .array(
      z.strictObject({
        name: z.string().min(1).max(60),
        extensions: z
          .array(z.string().regex(/^(\*|[a-z0-9]{1,10})$/i))
          .min(1)
          .max(20),
      }),
    )
    .max(10),
]);

/** @param showWindow when a person answers a notice */
export function registerBridgeHandlers(showWindow: () => void): void {
  const showNotice = createNotice(showWindow);
  ipcMain.handle(bridgeChannels.chooseFolder, (event, ...args: unknown[]) => {
    const window = trustedWindow(event);
    parseArguments(noArguments, args);
    return choose(window, { properties: ['openDirectory'] });
  });
  ipcMain.handle(bridgeChannels.chooseFile, (event, ...args: unknown[]) => {
    const window = trustedWindow(event);
    const [filters] = parseArguments(fileArguments, args);
    return choose(window, { properties: ['openFile'], filters });
  });
  ipcMain.handle(bridgeChannels.chooseNewFile, async (event, ...args: unknown[]) => {
    const window = trustedWindow(event);
    const [filters] = parseArguments(fileArguments, args);
    const { canceled, filePath } = await dialog.showSaveDialog(window, { filters });
    return canceled || filePath === '' ? null : filePath;
  });
  ipcMain.handle(bridgeChannels.noticeApproval, (event, ...args: unknown[]) => {
    trustedWindow(event);
    parseArguments(noArguments, args);
    showNotice();
  });
}

/** The page says when, never what: a lock screen may show it. One at a time, or Electron would drop the older one's click. */
function createNotice(showWindow: () => void): () => void {
  let shown: Notification | null = null;
  return () => {
    if (!Notification.isSupported()) return;
    shown?.close();
    shown = new Notification({ title: 'Anneal', body: 'A run asks for approval.' });
    shown.on('click', showWindow);
    shown.show();
  };
}

/**
 * The window of a call, if the call comes from the top page of one of our own windows.
 * @throws AppError NOT_ALLOWED for anything else: an embedded frame, a foreign page, a page that is gone
 */
function trustedWindow(event: IpcMainInvokeEvent): BrowserWindow {
  const frame = event.senderFrame;
  const window = BrowserWindow.fromWebContents(event.sender);
  if (window === null || frame === null || frame.parent !== null || !isAppUrl(frame.url)) {
    throw new AppError('NOT_ALLOWED', 'This page may not use the desktop.');
  }
  return window;
}

function parseArguments<T>(schema: z.ZodType<T>, args: unknown[]): T {
  const parsed = schema.safeParse(args);
  if (!parsed.success) throw new AppError('CONFIG_INVALID', 'The request to the desktop was malformed.');
  return parsed.data;
}

async function choose(window: BrowserWindow, options: OpenDialogOptions): Promise<string | null> {
  const { canceled, filePaths } = await dialog.showOpenDialog(window, options);
  return canceled ? null : (filePaths[0] ?? null);
}
