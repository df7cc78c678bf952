/** Where the agent's program and its Node binary are, in development and in a packaged app. */
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
  return { nodePath, entry: join(app.appPath, 'core/agent/main.ts') };
}
