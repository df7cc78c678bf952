/** How commands speak: plain sentences for people, one JSON value with --json. */
import { fromClientError } from '../api/client.ts';
import { toAppError } from '../shared/errors.ts';

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
