/** One measured process: requests go in as lines of JSON, answers come back the same way. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { type ChildEnd, startChild } from '../../core/process/child-process.ts';
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
  const lines = createLineQueue(program);
  const child = startChild(program, commandArguments, {
    lifeline: 'stdin',
    env: { ...process.env, ...environment },
    onLine: lines.add,
    onErrorLine: lines.addError,
  });
  void child.ended.then(lines.end);
  const answer = async <T>(schema: z.ZodType<T>) => schema.parse(JSON.parse(await lines.next()));
  try {
    const ready = await answer(readySchema);
    return {
      ready,
      ask(request, schema) {
        child.node.stdin!.write(`${JSON.stringify(request)}\n`);
        return answer(schema);
      },
      processorSeconds: () => processorSeconds(child.pid!),
      async close() {
        child.node.stdin!.end(`${JSON.stringify({ type: 'exit' })}\n`);
        await child.ended;
      },
    };
  } catch (error) {
    await child.kill();
    throw error;
  }
}

function createLineQueue(program: string) {
  let errors = '';
  const lines: string[] = [];
  const waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  let failure: Error | undefined;
  return {
    add(line: string): void {
      const next = waiting.shift();
      if (next) next.resolve(line);
      else lines.push(line);
    },
    addError(line: string): void {
      errors = `${errors}${line}\n`.slice(-keptErrorText);
    },
    end({ code, signal }: ChildEnd): void {
      failure = new Error(`${program} ended (${signal ?? code}):\n${errors}`);
      for (const { reject } of waiting.splice(0)) reject(failure);
    },
    next(): Promise<string> {
      const line = lines.shift();
      if (line !== undefined) return Promise.resolve(line);
      if (failure) return Promise.reject(failure);
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
  };
}

/** utime and stime of /proc/PID/stat, which follow the name in brackets; source: proc(5). */
async function processorSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
