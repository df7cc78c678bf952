/** Where the agent's program, Node binary, data and socket are, in development and in a packaged app. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../../core/shared/errors.ts';
import { findPinnedNode, packagedNode } from '../node-runtime.ts';

export interface AgentProgram {
  nodePath: string;
  entry: string;
}

/**
 * @param app `appPath` is the checkout in development; `resourcesPath` the packaged app's resources
 * @throws AppError INTERNAL when npm installed no Node binary for this system
 */
export function locateAgent(app: {
  isPackaged: boolean;
  appPath: string;
  resourcesPath: string;
}): AgentProgram {
  if (app.isPackaged) {
    // Plain Node cannot read app.asar, so the agent lies beside it.
    const root = join(app.resourcesPath, 'app.asar.unpacked');
    return { nodePath: packagedNode(app.resourcesPath), entry: join(root, 'core/agent/main.ts') };
  }
  const nodePath = findPinnedNode(app.appPath);
  if (nodePath === null) {
    throw new AppError('INTERNAL', `There is no Node binary for ${process.platform}-${process.arch}.`, {
      action: 'Run "npm ci" again; Anneal runs on the systems listed in its README.',
    });
  }
  const entry = process.env['ANNEAL_AGENT_ENTRY'] ?? join(app.appPath, 'core/agent/main.ts');
  return { nodePath, entry };
}

export interface AgentSocket {
  path: string;
  /** Takes away the folder that holds the socket. */
  remove(): void;
}

/**
 * A new socket that only this person can reach: on POSIX in a folder with mode 0700 (the path has to stay
 * below 104 bytes, so it is not in the data folder), on Windows a named pipe with a name nobody can guess.
 */
export function createAgentSocket(): AgentSocket {
  if (process.platform === 'win32') {
    return { path: `\\\\.\\pipe\\anneal-${randomBytes(16).toString('hex')}`, remove: () => {} };
  }
  const folder = mkdtempSync(join(tmpdir(), 'anneal-'));
  return {
    path: join(folder, 'agent.sock'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
