/** Starts an agent with its servers: the socket for shell and command line, loopback for a browser. */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type HttpServer, startHttpServer } from '../api/http-server.ts';
import { type Agent, createAgent } from './agent.ts';
import { defaultDataFolder, screensFolder, socketPathOf } from './paths.ts';

export interface RunAgentOptions {
  dataFolder?: string | undefined;
  socket?: string | undefined;
  /** Also serve the screens on 127.0.0.1 at this port (0: any free one). */
  uiPort?: number | undefined;
  threads?: number | undefined;
  autoApprove?: boolean | undefined;
}

export interface RunningAgent {
  readonly agent: Agent;
  readonly socket: string;
  /** Loopback address of the screens, if asked for. */
  readonly url: string | null;
  readonly accessCode: string | null;
  close(): Promise<void>;
}

/** @throws AppError DATA_FOLDER_IN_USE | DATA_FOLDER_UNUSABLE | PORT_IN_USE | DATABASE_NEWER | DATABASE_DAMAGED */
export async function runAgent(options: RunAgentOptions): Promise<RunningAgent> {
  const dataFolder = options.dataFolder ?? defaultDataFolder();
  const socket = options.socket ?? socketPathOf(dataFolder);
  const agent = await createAgent({ dataFolder, threads: options.threads, autoApprove: options.autoApprove });
  const servers: HttpServer[] = [];
  try {
    if (process.platform !== 'win32') mkdirSync(dirname(socket), { recursive: true, mode: 0o700 });
    const screens = existsSync(screensFolder()) ? { screensFolder: screensFolder() } : {};
    const shared = { context: agent.context, logger: agent.logger, ...screens };
    servers.push(await startHttpServer({ ...shared, listen: { socket } }));
    if (options.uiPort !== undefined)
      servers.push(await startHttpServer({ ...shared, listen: { port: options.uiPort } }));
  } catch (error) {
    for (const server of servers) await server.close();
    await agent.close();
    throw error;
  }
  const ui = servers[1];
  return {
    agent,
    socket,
    url: ui?.address ?? null,
    accessCode: ui?.accessCode ?? null,
    async close() {
      for (const server of servers) await server.close();
      await agent.close();
    },
  };
}
