/** Stands in for the parts of the desktop that a test only wants to know were asked: menus, dialogs, tray. */
import { EventEmitter } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import type { MenuItemConstructorOptions } from 'electron';
import { record } from './context.ts';

export class MenuItem {
  readonly options: MenuItemConstructorOptions;
  readonly submenu: Menu | null;

  constructor(options: MenuItemConstructorOptions) {
    this.options = options;
    this.submenu = Array.isArray(options.submenu) ? Menu.buildFromTemplate(options.submenu) : null;
  }

  get id(): string | undefined {
    return this.options.id;
  }
  get label(): string {
    return this.options.label ?? this.options.role ?? '';
  }
  get role(): string | undefined {
    return this.options.role;
  }
  click(): void {
    // The app's click handlers here take no arguments.
    (this.options.click as (() => void) | undefined)?.();
  }
}

export class Menu {
  static #applicationMenu: Menu | null = null;
  readonly items: MenuItem[];

  constructor(items: MenuItem[] = []) {
    this.items = items;
  }

  static buildFromTemplate = (template: MenuItemConstructorOptions[]): Menu =>
    new Menu(template.map((options) => new MenuItem(options)));
  static setApplicationMenu = (menu: Menu | null): void => {
    Menu.#applicationMenu = menu;
  };
  static getApplicationMenu = (): Menu | null => Menu.#applicationMenu;

  getMenuItemById(id: string): MenuItem | null {
    for (const item of this.items) {
      const found = item.id === id ? item : (item.submenu?.getMenuItemById(id) ?? null);
      if (found !== null) return found;
    }
    return null;
  }
}

export class Tray extends EventEmitter {
  static readonly all: Tray[] = [];
  readonly image: { isEmpty(): boolean };
  toolTip = '';
  menu: Menu | null = null;

  constructor(image: { isEmpty(): boolean }) {
    super();
    // Real Electron shows nothing for an empty image, which is never what the app wants.
    if (image.isEmpty()) throw new Error('The tray needs an image');
    this.image = image;
    Tray.all.push(this);
  }

  setToolTip(text: string): void {
    this.toolTip = text;
  }
  setContextMenu(menu: Menu | null): void {
    this.menu = menu;
  }
}

export const nativeImage = {
  createFromPath: (path: string) => {
    const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
    return { isEmpty: () => bytes.length === 0, toPNG: () => bytes };
  },
};

/** Shown to nobody; a test finds it in `Notification.shown` and may click it. */
export class Notification extends EventEmitter {
  static readonly shown: Notification[] = [];
  static isSupported = (): boolean => true;
  readonly options: { title?: string; body?: string };

  constructor(options: { title?: string; body?: string } = {}) {
    super();
    this.options = options;
  }

  show(): void {
    Notification.shown.push(this);
    record('Notification.show', this.options);
  }
  close(): void {
    this.emit('close');
  }
}

/** Every dialog is cancelled unless a test replaces the function. */
export const dialog = {
  showOpenDialog: async (_window: unknown, options: unknown) => {
    record('dialog.showOpenDialog', options);
    return { canceled: true, filePaths: [] as string[] };
  },
  showSaveDialog: async (_window: unknown, options: unknown) => {
    record('dialog.showSaveDialog', options);
    return { canceled: true, filePath: '' };
  },
  showMessageBox: async (options: { cancelId?: number }) => {
    record('dialog.showMessageBox', options);
    return { response: options.cancelId ?? 0 };
  },
  showErrorBox: (title: string, content: string) => {
    record('dialog.showErrorBox', { title, content });
    process.stderr.write(`${title}: ${content}\n`);
  },
};

export const shell = {
  openExternal: async (url: string) => record('shell.openExternal', url),
  openPath: async (path: string) => {
    record('shell.openPath', path);
    return '';
  },
};

type RequestHandler = (contents: unknown, permission: string, answer: (granted: boolean) => void) => void;
type CheckHandler = (contents: unknown, permission: string, origin: string) => boolean;

/** Keeps the app's handlers, so that a test can ask them; Chromium's own permissions stay at their defaults. */
export class Session extends EventEmitter {
  permissionRequestHandler: RequestHandler | null = null;
  permissionCheckHandler: CheckHandler | null = null;

  setPermissionRequestHandler(handler: RequestHandler | null): void {
    this.permissionRequestHandler = handler;
  }
  setPermissionCheckHandler(handler: CheckHandler | null): void {
    this.permissionCheckHandler = handler;
  }
  setDevicePermissionHandler(): void {
    record('session.setDevicePermissionHandler');
  }
}

export const session = { defaultSession: new Session() };
