/** Where things are in a packaged app, and how a test starts its agent. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { startAgentProcess } from '../../core/agent/agent-process.ts';
import { type AgentClient, createAgentClient } from '../../core/api/client.ts';
import { packagedNode } from '../../electron/node-runtime.ts';

export interface PackagedApp {
  executable: string;
  resources: string;
  /** The pinned Node that was packaged. */
  node: string;
  /** Root of the agent's sources and modules. */
  root: string;
}

export function packagedApp(folder: string): PackagedApp {
  const macApp = join(folder, 'Anneal.app/Contents');
  const isMac = existsSync(macApp);
  const resources = join(isMac ? macApp : folder, isMac ? 'Resources' : 'resources');
  const executable = isMac
    ? join(macApp, 'MacOS/Anneal')
    : join(folder, process.platform === 'win32' ? 'Anneal.exe' : 'anneal');
  return {
    executable,
    resources,
    node: packagedNode(resources),
    root: join(resources, 'app.asar.unpacked'),
  };
}

export interface PackagedAgent {
  client: AgentClient;
  log: string[];
  stop(): Promise<void>;
}

/**
 * Starts the packaged agent on the packaged Node, as the shell does.
 * @throws Error with the agent's own words when it ends before it is ready
 */
export async function startPackagedAgent(
  app: PackagedApp,
  dataFolder: string,
  flags: string[] = [],
): Promise<PackagedAgent> {
  const log: string[] = [];
  const ready = Promise.withResolvers<string>();
  const agent = startAgentProcess({
    nodePath: app.node,
    args: [join(app.root, 'core/agent/main.ts'), '--data', dataFolder, '--with-parent', ...flags],
    onReady: ({ socket }) => ready.resolve(socket),
    log: (line) => log.push(line),
  });
  void agent.exited.then(({ code, report }) =>
    ready.reject(new Error(report?.message ?? `The agent ended with ${code}: ${log.slice(-5).join('\n')}`)),
  );
  return { client: createAgentClient(await ready.promise), log, stop: () => agent.stop(10_000) };
}
