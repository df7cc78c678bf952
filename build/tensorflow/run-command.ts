/** Runs a program of the setup and keeps the end of what it said. */
import { spawn } from 'node:child_process';

export interface CommandResult {
  /** Undefined when the program could not be started at all. */
  readonly exitCode: number | undefined;
  /** The last of its standard output and standard error. */
  readonly output: string;
}

const keptCharacters = 20_000;

export function runCommand(
  program: string,
  parameters: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(program, parameters, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-keptCharacters);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', (error) => resolve({ exitCode: undefined, output: error.message }));
    child.once('close', (code) => resolve({ exitCode: code ?? 1, output }));
  });
}
