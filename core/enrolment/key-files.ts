/** Private keys and certificates on disk: written whole or not at all, readable by their owner only. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { AppError, toAppError } from '../shared/errors.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import { createSigner, type Signer } from '../transport/signature.ts';

/** @throws AppError DISK_FULL | DATA_FOLDER_UNUSABLE */
export async function writeSecretFile(file: string, text: string): Promise<void> {
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await writeFileAtomically(file, text, 0o600);
  } catch (error) {
    const known = toAppError(error);
    if (known.code !== 'INTERNAL') throw known;
    throw new AppError('DATA_FOLDER_UNUSABLE', "Keys can't be written to the data folder.", { cause: error });
  }
}

/** Null when there is no such file. @throws AppError DATA_FOLDER_UNUSABLE */
export async function readSecretFile(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return null;
    throw new AppError('DATA_FOLDER_UNUSABLE', "Keys can't be read from the data folder.", { cause: error });
  }
}

/** Null when there is no such file. @throws AppError DATA_FOLDER_UNUSABLE */
async function readKey(file: string): Promise<KeyObject | null> {
  const text = await readSecretFile(file);
  if (text === null) return null;
  try {
    return createPrivateKey(text);
  } catch (error) {
    throw new AppError('DATA_FOLDER_UNUSABLE', `The key file "${path.basename(file)}" is damaged.`, {
      action: 'Restore the folder "keys" from a backup, or join again with a new data folder.',
      cause: error,
    });
  }
}

/** For who has its keys already: another one would make it somebody else. @throws AppError KEYS_MISSING | DATA_FOLDER_UNUSABLE */
export async function loadKey(file: string): Promise<KeyObject> {
  const key = await readKey(file);
  if (key !== null) return key;
  throw new AppError(
    'KEYS_MISSING',
    `The key file "${path.basename(file)}" of this installation is missing from the folder "keys".`,
  );
}

/** @param kind `ed25519` signs messages, `p256` (ECDSA) is for TLS @throws AppError DATA_FOLDER_UNUSABLE */
export async function loadOrCreateKey(file: string, kind: 'ed25519' | 'p256'): Promise<KeyObject> {
  const known = await readKey(file);
  if (known !== null) return known;
  const { privateKey } =
    kind === 'ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  await writeSecretFile(file, privateKeyPem(privateKey));
  return privateKey;
}

export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/**
 * The key that signs an installation's messages, made at first use.
 * @param id site id, or `coordinator`
 * @throws AppError DATA_FOLDER_UNUSABLE
 */
export async function loadOrCreateSigner(keysDir: string, id: string): Promise<Signer> {
  return createSigner(id, await loadOrCreateKey(signingKeyFile(keysDir), 'ed25519'));
}

/** The same of an installation that has it. @throws AppError KEYS_MISSING | DATA_FOLDER_UNUSABLE */
export async function loadSigner(keysDir: string, id: string): Promise<Signer> {
  return createSigner(id, await loadKey(signingKeyFile(keysDir)));
}

const signingKeyFile = (keysDir: string) => path.join(keysDir, 'signing-key.pem');
