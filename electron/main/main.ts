/** Puts the desktop shell together. The shell shows screens and keeps the agent running; it does no work. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { app, dialog, session, shell } from 'electron';
import type { ErrorReport } from '../../core/shared/errors.ts';
import { toAppError } from '../../core/shared/errors.ts';
import { locateAgent } from './agent-location.ts';
import { createAgentProxy } from './agent-proxy.ts';
import { type AgentSupervisor, createAgentSupervisor } from './agent-supervisor.ts';
import { registerAppScheme, serveAppProtocol } from './app-protocol.ts';
import { registerBridgeHandlers } from './bridge-handlers.ts';
import { installMenu } from './menu.ts';
import { createShellLog } from './shell-log.ts';
import { claimSingleInstance, onSecondStart } from './single-instance.ts';
import { createStaticFiles } from './static-files.ts';
import { createTray } from './tray.ts';
import { createMainWindow, denyPermissions, lockDownPages } from './windows.ts';

/** `dist/electron` in development, the same folder inside app.asar in a packaged app. */
const bundleFolder = dirname(fileURLToPath(import.meta.url));

function runShell(): void {
  const dataFolder = join(app.getPath('userData'), 'data');
  const log = createShellLog(join(app.getPath('userData'), 'logs'));
  const { nodePath, entry } = locateAgent({
    isPackaged: app.isPackaged,
    appPath: app.getAppPath(),
    resourcesPath: process.resourcesPath,
  });
  const window = createMainWindow(join(bundleFolder, 'preload.cjs'), log.write);
  const agent = createAgentSupervisor({
    nodePath,
    // Without --socket the agent takes the place where the command line looks for it, and tells us.
    args: [entry, '--data', dataFolder, '--with-parent'],
    log: log.write,
    onState: (state) => tray.showState(state),
    onGaveUp: (report) => void explainFailure(report, agent, log.folder),
  });
  denyPermissions(session.defaultSession);
  serveAppProtocol({
    files: createStaticFiles(join(bundleFolder, '../renderer')),
    agent: createAgentProxy({ whenReady: agent.whenReady }),
  });
  registerBridgeHandlers(window.show);
  installMenu({
    withDeveloperTools: !app.isPackaged,
    openDataFolder: () => void shell.openPath(dataFolder),
    openLogFolder: () => void shell.openPath(log.folder),
  });
  const tray = createTray(join(bundleFolder, 'tray.png'), { open: window.show, quit: () => app.quit() });
  quitInOrder(agent, window.allowClose);
  onSecondStart(window.show);
  app.on('activate', window.show);
  app.on('window-all-closed', () => {}); // The agent goes on; the tray and the menu quit.
  agent.start();
  window.show();
}

/** Holds the quit back until the agent's process is gone, so that none is ever left behind. */
function quitInOrder(agent: AgentSupervisor, finish: () => void): void {
  let agentIsGone = false;
  app.on('before-quit', (event) => {
    if (agentIsGone) return;
    event.preventDefault();
    void agent.stop().finally(() => {
      agentIsGone = true;
      finish();
      app.quit();
    });
  });
}

/** Says in one sentence why there is no agent, and what can be done. */
async function explainFailure(report: ErrorReport, agent: AgentSupervisor, logFolder: string): Promise<void> {
  const { response } = await dialog.showMessageBox({
    type: 'error',
    title: 'Anneal',
    message: report.message,
    detail: report.action,
    buttons: ['Try Again', 'Open Log Folder', 'Quit'],
    defaultId: 0,
    cancelId: 2,
    noLink: true,
  });
  if (response === 0) agent.retry();
  else if (response === 1) {
    await shell.openPath(logFolder);
    await explainFailure(report, agent, logFolder);
  } else app.quit();
}

registerAppScheme();
app.enableSandbox();
lockDownPages();
if (claimSingleInstance()) {
  process.on('SIGTERM', () => app.quit());
  process.on('SIGINT', () => app.quit());
  app
    .whenReady()
    .then(runShell)
    .catch((error: unknown) => {
      const { message, action } = toAppError(error).toReport();
      dialog.showErrorBox('Anneal', `${message} ${action}`);
      app.exit(1);
    });
} else {
  app.quit();
}
