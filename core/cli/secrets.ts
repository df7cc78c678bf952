/** Passwords for commands: typed without an echo, or one line each from standard input. Never an argument: process lists show those. */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { AppError } from '../shared/errors.ts';

export interface SecretReader extends Disposable {
  /** @param words what to type, for a terminal; said on standard error @throws AppError CONFIG_INVALID when there is none */
  read(words: string): Promise<string>;
}

/** Lines of standard input that nobody has asked for yet: one reader may be given what is meant for the next. */
const waiting: string[] = [];
let isOver = false;

export function createSecretReader(): SecretReader {
  const isTerminal = process.stdin.isTTY === true;
  // The terminal's echo is readline's own output, which goes nowhere.
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  let wake = () => {};
  let lines: Interface | null = null;
  function listen(): void {
    lines = createInterface({ input: process.stdin, output: silent, terminal: isTerminal });
    lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
    lines.on('line', (line) => {
      waiting.push(line);
      wake();
    });
    lines.on('close', () => {
      // By the end of what was sent, or by Ctrl-D, unless it was closed here.
      if (lines !== null) isOver = true;
      wake();
    });
  }
  return {
    async read(words) {
      if (isTerminal) process.stderr.write(`${words}: `);
      if (waiting.length === 0 && !isOver) {
        if (lines === null) listen();
        while (waiting.length === 0 && !isOver) await new Promise<void>((resolve) => (wake = resolve));
      }
      if (isTerminal) process.stderr.write('\n');
      const value = waiting.shift() ?? '';
      if (value !== '') return value;
      throw new AppError('CONFIG_INVALID', 'No password was given.', {
        action: 'Type it when Anneal asks, or send it as a line of standard input.',
      });
    },
    [Symbol.dispose]() {
      const opened = lines;
      lines = null;
      opened?.close();
    },
  };
}
