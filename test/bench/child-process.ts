/** One measured process: requests go in as lines of JSON, answers come back the same way. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { z } from 'zod';
import type { Request } from './messages.ts';

export interface MeasuredProcess<Ready> {
  readonly ready: Ready;
  ask<T>(request: Request, schema: z.ZodType<T>): Promise<T>;
  /** Processor seconds used so far, all threads; NaN where the system does not tell. */
  processorSeconds(): Promise<number>;
  close(): Promise<void>;
}

const ticksPerSecond = 100;
const keptErrorText = 4000;

/** @throws Error with the end of its standard error when the process ends before it should */
export async function startProcess<Ready>(
  command: readonly string[],
  readySchema: z.ZodType<Ready>,
  environment: Readonly<Record<string, string>> = {},
): Promise<MeasuredProcess<Ready>> {
  const [program = '', ...commandArguments] = command;
  const child = spawn(program, commandArguments, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const nextLine = lineReader(child, program);
  const answer = async <T>(schema: z.ZodType<T>) => schema.parse(JSON.parse(await nextLine()));
  try {
    const ready = await answer(readySchema);
    return {
      ready,
      ask(request, schema) {
        child.stdin!.write(`${JSON.stringify(request)}\n`);
        return answer(schema);
      },
      processorSeconds: () => processorSeconds(child.pid!),
      async close() {
        if (child.exitCode !== null) return;
        const ended = once(child, 'exit');
        child.stdin!.end(`${JSON.stringify({ type: 'exit' })}\n`);
        await ended;
      },
    };
  } catch (error) {
    child.kill();
    throw error;
  }
}

function lineReader(child: ChildProcess, program: string): () => Promise<string> {
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-keptErrorText);
  });
  const lines: string[] = [];
  const waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  let failure: Error | undefined;
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const next = waiting.shift();
    if (next) next.resolve(line);
    else lines.push(line);
  });
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  child.on('error', fail);
  // `close` comes after the last line was read.
  child.on('close', (code, signal) => fail(new Error(`${program} ended (${signal ?? code}):\n${errors}`)));
  return () => {
    const line = lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (failure) return Promise.reject(failure);
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  };
}

/** utime and stime of /proc/PID/stat, which follow the name in brackets; source: proc(5). */
async function processorSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
