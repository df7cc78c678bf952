/** The icon by the clock: shows that Anneal works in the background, opens its window, quits it. */
import { Menu, nativeImage, Tray } from 'electron';
import type { AgentState } from './agent-supervisor.ts';

export interface TrayActions {
  open(): void;
  quit(): void;
}

export interface AnnealTray {
  showState(state: AgentState): void;
}

const stateText: Readonly<Record<AgentState, string>> = {
  stopped: 'Stopped',
  starting: 'Starting…',
  ready: 'Running',
  restarting: 'Starting again…',
  failed: 'Not running: see the window',
};

/** @param iconPath a PNG of 32×32 pixels */
export function createTray(iconPath: string, actions: TrayActions): AnnealTray {
  const tray = new Tray(nativeImage.createFromPath(iconPath));
  tray.on('click', actions.open);
  const showState = (state: AgentState) => {
    tray.setToolTip(`Anneal: ${stateText[state]}`);
    tray.setContextMenu(
      Menu.buildFromTemplate([
        { id: 'state', label: stateText[state], enabled: false },
        { type: 'separator' },
        { id: 'open', label: 'Open Anneal', click: actions.open },
        { id: 'quit', label: 'Quit', click: actions.quit },
      ]),
    );
  };
  showState('starting');
  return { showState };
}
