/**
 * Identifiers of subjects (hospital numbers, names), sealed before they reach the database: a copied database without
 * the key file tells nobody who is in it.
 */
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { AppError, toAppError } from '../shared/errors.ts';

const algorithm = 'aes-256-gcm';
const formatVersion = 1;
const nonceBytes = 12;
const tagBytes = 16;
const keyBytes = 32;

/**
 * The key of this installation, made at first use: `identifiers.key`, 32 random bytes, readable by this account only.
 * Without it the sealed identifiers are lost, so it belongs into the backup, apart from the database.
 * @throws AppError DATA_FOLDER_UNUSABLE | DISK_FULL
 */
export function loadIdentifierKey(keysDir: string): Uint8Array {
  const file = path.join(keysDir, 'identifiers.key');
  try {
    const key = readKey(file) ?? makeKey(file);
    if (key.length === keyBytes) return key;
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'DISK_FULL') throw error;
    throw new AppError('DATA_FOLDER_UNUSABLE', 'The key for identifiers cannot be read or made.', {
      cause: thrown,
    });
  }
  throw new AppError('DATA_FOLDER_UNUSABLE', 'The key file for identifiers is damaged.', {
    action: 'Restore keys/identifiers.key of the data folder from a backup.',
  });
}

/**
 * AES-256-GCM with a fresh nonce: version, nonce (12 bytes), tag (16 bytes), ciphertext.
 * @param context bound to the ciphertext but not stored, for instance the pseudonym, so that a sealed identifier cannot
 *   be moved to another subject
 */
export function sealIdentifier(key: Uint8Array, text: string, context = ''): Uint8Array {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(Buffer.from(context, 'utf8'));
  const ciphertext = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([Uint8Array.of(formatVersion), nonce, cipher.getAuthTag(), ciphertext]);
}

/** @throws AppError DATABASE_DAMAGED when the bytes were changed, or sealed with another key or context */
export function openIdentifier(key: Uint8Array, sealed: Uint8Array, context = ''): string {
  const bytes = Buffer.from(sealed);
  const start = 1 + nonceBytes;
  try {
    if (bytes[0] !== formatVersion || bytes.length < start + tagBytes) throw new RangeError('unknown format');
    const decipher = createDecipheriv(algorithm, key, bytes.subarray(1, start), { authTagLength: tagBytes });
    decipher.setAAD(Buffer.from(context, 'utf8'));
    decipher.setAuthTag(bytes.subarray(start, start + tagBytes));
    return decipher.update(bytes.subarray(start + tagBytes), undefined, 'utf8') + decipher.final('utf8');
  } catch (thrown) {
    throw new AppError(
      'DATABASE_DAMAGED',
      'A stored identifier cannot be opened with the key of this data folder.',
      {
        action: 'Restore the database and keys/identifiers.key from the same backup.',
        cause: thrown,
      },
    );
  }
}

function readKey(file: string): Uint8Array | null {
  try {
    return readFileSync(file);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw thrown;
  }
}

/** Written whole, then linked: never half a key under the name, and never over an existing one. */
function makeKey(file: string): Uint8Array {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    const descriptor = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(descriptor, randomBytes(keyBytes));
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    try {
      linkSync(temporary, file);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') throw thrown;
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  return readFileSync(file);
}
