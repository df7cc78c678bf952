#!/usr/bin/env node
/**
 * The agent as a process of its own: `node core/agent/main.ts --data FOLDER [--socket PATH]`.
 * Prints one JSON line when it serves, and ends on SIGTERM, SIGINT, or when standard input closes (its parent
 * is gone) if `--with-parent` is given.
 */
import { parseArgs } from 'node:util';
import { watchParent } from '../process/parent-watch.ts';
import { toAppError } from '../shared/errors.ts';
import type { AgentLine } from './agent-process.ts';
import { keepRunning } from './last-resort.ts';
import { runAgent } from './run-agent.ts';

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    socket: { type: 'string' },
    'ui-port': { type: 'string' },
    threads: { type: 'string' },
    approve: { type: 'boolean', default: false },
    'with-parent': { type: 'boolean', default: false },
  },
});

watchParent();
try {
  const running = await runAgent({
    dataFolder: values.data,
    socket: values.socket,
    uiPort: values['ui-port'] === undefined ? undefined : Number(values['ui-port']),
    threads: values.threads === undefined ? undefined : Number(values.threads),
    autoApprove: values.approve,
  });
  keepRunning(running.agent.logger);
  const { socket, url, accessCode } = running;
  say({ type: 'ready', socket, url, accessCode });
  const stop = () => void running.close().finally(() => process.exit(0));
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  if (values['with-parent']) process.stdin.on('end', stop).on('error', stop).resume();
} catch (thrown) {
  say({ type: 'failed', error: toAppError(thrown).toReport() });
  process.exitCode = 1;
}

function say(line: AgentLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
