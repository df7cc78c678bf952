/** The passphrase of a backup: from a file that nobody else can read, typed, or sent as a line of standard input. */
import { constants, open } from 'node:fs/promises';
import { AppError } from '../shared/errors.ts';
import { createSecretReader } from './secrets.ts';

const mostBytes = 4096;

/** @param isNew asks twice, at a terminal @throws AppError CONFIG_INVALID | FILE_UNREADABLE */
export async function readPassphrase(file: string | undefined, isNew: boolean): Promise<string> {
  if (file !== undefined) return readPassphraseFile(file);
  using secrets = createSecretReader();
  const passphrase = await secrets.read(isNew ? 'New passphrase of the backup' : 'Passphrase of the backup');
  if (!isNew || process.stdin.isTTY !== true) return passphrase;
  if ((await secrets.read('The same once more')) === passphrase) return passphrase;
  throw new AppError('CONFIG_INVALID', 'The two passphrases differ.', { action: 'Try again.' });
}

/** Its first line. What others can read is no secret; on Windows the folder's permissions are the administrator's matter. */
async function readPassphraseFile(file: string): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((cause) => {
    throw new AppError('FILE_UNREADABLE', 'The file with the passphrase cannot be read.', { cause });
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new AppError('FILE_UNREADABLE', 'What has that name is not a file.');
    if (process.platform !== 'win32') {
      const isOwn = stat.uid === process.getuid?.() || stat.uid === 0;
      if (!isOwn || (stat.mode & 0o077) !== 0)
        throw new AppError('CONFIG_INVALID', 'Others can read or change the file with the passphrase.', {
          action: 'Make it your own and for nobody else: chmod 600, and chown where needed.',
        });
    }
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(mostBytes), 0, mostBytes, 0);
    const [line = ''] = buffer.toString('utf8', 0, bytesRead).split(/\r?\n/);
    if (line !== '') return line;
    throw new AppError('CONFIG_INVALID', 'The file with the passphrase begins with an empty line.', {
      action: 'Write the passphrase into its first line.',
    });
  } finally {
    await handle.close();
  }
}
