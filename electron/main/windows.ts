/** The main window and the walls around every page: no new windows, no navigation away, no permissions. */
import { app, BrowserWindow, type Session, type WebContents } from 'electron';
import { appOrigin, isAppUrl } from './app-protocol.ts';

export interface MainWindow {
  /** Shows the window, making it first if there is none. */
  show(): void;
  /** From now on closing the window really closes it. */
  allowClose(): void;
  readonly current: BrowserWindow | null;
}

/** Holds for every page the app ever makes; call it once before the first window. */
export function lockDownPages(): void {
  app.on('web-contents-created', (_event, contents) => lockDown(contents));
}

/** @param preload path of the bundled preload script */
export function createMainWindow(preload: string, log: (line: string) => void): MainWindow {
  let window: BrowserWindow | null = null;
  let mayClose = false;

  function open(): BrowserWindow {
    const opened = new BrowserWindow({
      width: 1240,
      height: 820,
      minWidth: 760,
      minHeight: 560,
      title: app.getName(),
      show: false,
      webPreferences: {
        preload,
        sandbox: true,
        contextIsolation: true,
        nodeIntegration: false,
        webviewTag: false,
        spellcheck: false, // Would fetch dictionaries.
      },
    });
    opened.once('ready-to-show', () => opened.show());
    opened.on('close', (event) => {
      // Training goes on in the background; the tray or a second start brings the window back.
      if (mayClose) return;
      event.preventDefault();
      opened.hide();
    });
    opened.on('closed', () => {
      window = null;
    });
    opened.webContents.on('render-process-gone', (_event, details) => {
      log(`page process gone: ${details.reason}`);
      if (!opened.isDestroyed()) opened.webContents.reload();
    });
    opened.loadURL(`${appOrigin}/`).catch((error: unknown) => {
      log(`the first page did not load: ${(error as { code?: string }).code ?? 'unknown'}`);
    });
    return opened;
  }

  return {
    get current() {
      return window;
    },
    show: () => {
      if (window === null) {
        window = open();
        return;
      }
      if (window.isMinimized()) window.restore();
      window.show();
      window.focus();
    },
    allowClose: () => {
      mayClose = true;
    },
  };
}

function lockDown(contents: WebContents): void {
  contents.setWindowOpenHandler(() => ({ action: 'deny' }));
  const refuseForeign = (event: { url: string; preventDefault(): void }) => {
    if (!isAppUrl(event.url)) event.preventDefault();
  };
  contents.on('will-navigate', refuseForeign);
  contents.on('will-frame-navigate', refuseForeign);
  contents.on('will-redirect', refuseForeign);
  contents.on('will-attach-webview', (event) => event.preventDefault());
}

/** Putting text on the clipboard is all that a page may do; copying an invitation needs it. */
const grantedPermission = 'clipboard-sanitized-write';

export function denyPermissions(session: Session): void {
  session.setPermissionRequestHandler((contents, permission, answer) => {
    answer(permission === grantedPermission && isAppUrl(contents.getURL()));
  });
  session.setPermissionCheckHandler((_contents, permission, origin) => {
    return permission === grantedPermission && isAppUrl(origin);
  });
  session.setDevicePermissionHandler(() => false);
}
