/** How commands speak: plain sentences for people, one JSON value with --json. */
import { fromClientError } from '../api/client.ts';
import { toAppError } from '../shared/errors.ts';

/** What a shell sees of a program that SIGPIPE ended, as it ends others before `| head`. */
const brokenPipeExitCode = 141;

/** Who reads the output has gone, for instance `head`: nothing is left to say, and nobody to say it to. */
export function endWithReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EOF') throw error;
      process.exit(brokenPipeExitCode);
    });
  }
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLine(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** One sentence and what to do; as one line of JSON on standard output when a script asked for it. */
export function printError(thrown: unknown, asJson: boolean): void {
  const error = toAppError(fromClientError(thrown));
  if (asJson) printLine(JSON.stringify({ type: 'error', error: error.toReport() }));
  else process.stderr.write(`Error: ${error.message}\n${error.action}\n`);
  if (error.code === 'INTERNAL' && process.env['ANNEAL_DEBUG'] !== undefined)
    console.error(error.cause ?? error);
}
