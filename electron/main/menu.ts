/** The application menu: what people expect of any desktop program, and where the files are. */
import { Menu, type MenuItemConstructorOptions } from 'electron';

export interface MenuOptions {
  /** Developer tools are for development only. */
  withDeveloperTools: boolean;
  openDataFolder(): void;
  openLogFolder(): void;
}

export function installMenu(options: MenuOptions): void {
  Menu.setApplicationMenu(Menu.buildFromTemplate(menuTemplate(options)));
}

function menuTemplate(options: MenuOptions): MenuItemConstructorOptions[] {
  const developer: MenuItemConstructorOptions[] = options.withDeveloperTools
    ? [{ role: 'reload' }, { role: 'toggleDevTools' }, { type: 'separator' }]
    : [];
  return [
    ...(process.platform === 'darwin' ? [{ role: 'appMenu' } as const] : []),
    { label: 'File', submenu: [{ role: 'close' }, { role: 'quit' }] },
    { role: 'editMenu' },
    {
      label: 'View',
      submenu: [
        ...developer,
        { role: 'resetZoom' },
        { role: 'zoomIn' },
        { role: 'zoomOut' },
        { type: 'separator' },
        { role: 'togglefullscreen' },
      ],
    },
    {
      role: 'help',
      submenu: [
        { id: 'data-folder', label: 'Open Data Folder', click: options.openDataFolder },
        { id: 'log-folder', label: 'Open Log Folder', click: options.openLogFolder },
      ],
    },
  ];
}
