/** Passwords for commands: typed without an echo, or one line each from standard input. Never an argument: process lists show those. */
import { createInterface, type Interface } from 'node:readline';
import { Writable } from 'node:stream';
import { AppError } from '../shared/errors.ts';

export interface SecretReader extends Disposable {
  /** @param words what to type, for a terminal; said on standard error @throws AppError CONFIG_INVALID when there is none */
  read(words: string): Promise<string>;
}

export function createSecretReader(): SecretReader {
  const isTerminal = process.stdin.isTTY === true;
  // The terminal's echo is readline's own output, which goes nowhere.
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines: Interface = createInterface({ input: process.stdin, output: silent, terminal: isTerminal });
  const iterator = lines[Symbol.asyncIterator]();
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  return {
    async read(words) {
      if (isTerminal) process.stderr.write(`${words}: `);
      const { value, done } = await iterator.next();
      if (isTerminal) process.stderr.write('\n');
      if (done !== true && value !== '') return value;
      throw new AppError('CONFIG_INVALID', 'No password was given.', {
        action: 'Type it when Anneal asks, or send it as a line of standard input.',
      });
    },
    [Symbol.dispose]: () => lines.close(),
  };
}
