/** Gives a command an agent: the one that runs on the data folder, else one for the length of the command. */
import { join } from 'node:path';
import { defaultDataFolder, socketPathOf } from '../agent/paths.ts';
import { type RunAgentOptions, type RunningAgent, runAgent } from '../agent/run-agent.ts';
import { type AgentClient, createAgentClient } from '../api/client.ts';
import type { AgentStatus } from '../api/contract.ts';
import { type Catalogue, createCatalogue } from '../models/catalogue.ts';
import { createLeakTests, type LeakTests } from '../policy/leak-test-service.ts';
import { AppError } from '../shared/errors.ts';
import { printJson, printLine } from './output.ts';
import { createSecretReader } from './secrets.ts';

/** The base models of a data folder and their leak tests, for commands that need no agent. */
export function openCatalogue(dataFolder = defaultDataFolder()): Catalogue & { leakTests: LeakTests } {
  const modelsFolder = join(dataFolder, 'models');
  const catalogue = createCatalogue(modelsFolder);
  return { ...catalogue, leakTests: createLeakTests({ catalogue, modelsFolder }) };
}

async function isRunning(client: AgentClient): Promise<boolean> {
  try {
    await client.status.query();
    return true;
  } catch {
    return false;
  }
}

/** `--as NAME`, for every command: the account in whose name it acts. */
let account: string | null = null;

export const actingAs = (): string | null => account;
export function actAs(name: string | undefined): void {
  account = name ?? null;
}

/** With --as: signs in with the password of that account, and out again. Else the operating system's user acts. */
async function inSession<T>(client: AgentClient, work: (client: AgentClient) => Promise<T>): Promise<T> {
  if (account === null) return work(client);
  const password = await readPassword(account);
  const me = await client.people.signIn.mutate({ name: account, password });
  try {
    if (me.state === 'must-change')
      throw new AppError('SIGN_IN_NEEDED', `"${account}" has a one-time password.`, {
        action: `Choose a password first: anneal users password --as ${account}`,
      });
    return await work(client);
  } finally {
    await client.people.signOut.mutate();
  }
}

async function readPassword(name: string): Promise<string> {
  using secrets = createSecretReader();
  return await secrets.read(`Password of ${name}`);
}

/**
 * For commands that need no network: joins, imports, looks.
 * @param options `signIn`: false for a command that signs in itself
 */
export async function withAgent<T>(
  dataFolder: string | undefined,
  work: (client: AgentClient) => Promise<T>,
  { signIn = true } = {},
): Promise<T> {
  const act = (client: AgentClient) => (signIn ? inSession(client, work) : work(client));
  const client = createAgentClient(socketPathOf(dataFolder ?? defaultDataFolder()));
  if (await isRunning(client)) return act(client);
  const running = await runAgent({ dataFolder });
  try {
    return await act(createAgentClient(running.socket));
  } finally {
    await running.close();
  }
}

/** For commands that speak to a running agent only. */
export async function withRunningAgent<T>(
  dataFolder: string | undefined,
  work: (client: AgentClient) => Promise<T>,
): Promise<T> {
  const client = createAgentClient(socketPathOf(dataFolder ?? defaultDataFolder()));
  if (!(await isRunning(client)))
    throw new AppError('AGENT_UNREACHABLE', 'Anneal is not running on this data folder.');
  return inSession(client, work);
}

/**
 * An agent opens its screens even when its role cannot start; a command that is there for the role ends instead.
 * @throws AppError what the agent reports
 */
export function requireRole({ broker, problem }: AgentStatus): void {
  if (broker.state === 'none' && problem !== null) throw AppError.fromReport(problem);
}

/** Resolves at Ctrl-C or SIGTERM. */
function untilStopped(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(signal));
  });
}

/** Runs an agent in the foreground until Ctrl-C. */
export async function runInForeground(
  options: RunAgentOptions & { json?: boolean | undefined },
  prepare: (client: AgentClient, running: RunningAgent) => Promise<void>,
): Promise<void> {
  const stopped = untilStopped();
  const running = await runAgent(options);
  try {
    await prepare(createAgentClient(running.socket), running);
    if (options.json === true) {
      printJson({ socket: running.socket, url: running.url, accessCode: running.accessCode });
    } else if (running.url !== null) {
      printLine(`Screens: ${running.url}   access code: ${running.accessCode}`);
    }
    if (options.json !== true) printLine('Press Ctrl-C to stop.');
    await stopped;
  } finally {
    await running.close();
  }
  process.exitCode = 0;
}
