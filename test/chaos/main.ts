#!/usr/bin/env node
/** `npm run chaos -- --minutes N --seed S`: docs/reliability.md. Ends with code 1 when a promise was broken. */
import { writeFile } from 'node:fs/promises';
import { startChild } from '../../core/process/child-process.ts';
import { insideEnvironment, isInside, namespaceCommand, programFile } from './disk.ts';
import { readOptions } from './options.ts';
import { linesOfReport } from './report.ts';
import { runChaos } from './run-chaos.ts';

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** Again in a mount namespace, so that disks can be filled. @returns its exit code; null where there is none */
async function runInside(given: readonly string[]): Promise<number | null> {
  const command = namespaceCommand();
  if (command === null) return null;
  const [program, ...flags] = [...command, process.execPath, programFile, ...given];
  const child = startChild(program!, flags, { env: insideEnvironment(), output: 'inherit', ownGroup: false });
  // The child hears of Ctrl-C as well, and ends in order.
  process.on('SIGINT', () => {}).on('SIGTERM', () => child.node.kill('SIGTERM'));
  const { code } = await child.ended;
  return code ?? 1;
}

async function main(given: readonly string[]): Promise<number> {
  const options = readOptions(given);
  if (options.orders !== undefined) {
    // Loaded only then: a federation needs none of it.
    const { tryOrders } = await import('./orders/orders.ts');
    const startedAt = performance.now();
    tryOrders(options.orders, options.seed);
    say(
      `${options.orders} orders in ${((performance.now() - startedAt) / 1000).toFixed(0)} s, no violations (seed ${options.seed})`,
    );
    return 0;
  }
  if (options.faults.includes('full-disk') && !isInside()) {
    const code = await runInside(given);
    if (code !== null) return code;
    // The schedule stays the same, so that a seed means the same everywhere.
    say('No disk can be mounted here without more rights: full disks are left out.');
  }
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort()).once('SIGTERM', () => interrupted.abort());
  const report = await runChaos(options, { say, signal: interrupted.signal });
  for (const line of linesOfReport(report)) say(line);
  if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(report, null, 2)}\n`);
  return report.violations === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  return 2;
});
