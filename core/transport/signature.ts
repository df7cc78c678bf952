/** Ed25519 (RFC 8032) as Anneal writes it: keys and signatures are base64url of the raw bytes. */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';

/** Signs as one sender. */
export interface Signer {
  /** Site id, or `coordinator`. */
  readonly id: string;
  /** base64url of the raw 32 bytes. */
  readonly publicKey: string;
  /** base64url of the 64-byte signature. */
  sign(data: Uint8Array): string;
}

/** The raw 32 bytes of an Ed25519 key, base64url. */
export function rawPublicKey(key: KeyObject): string {
  const { x } = key.export({ format: 'jwk' });
  if (x === undefined) throw new TypeError('not an Ed25519 key');
  return x;
}

/** @param privateKey Ed25519 */
export function createSigner(id: string, privateKey: KeyObject): Signer {
  return {
    id,
    publicKey: rawPublicKey(createPublicKey(privateKey)),
    sign: (data) => sign(null, data, privateKey).toString('base64url'),
  };
}

/** Making a key object costs half of a verification, and a federation has few keys: those used last are kept. */
const keptKeys = new Map<string, KeyObject>();
const mostKeptKeys = 256;

function keyOf(publicKey: string): KeyObject {
  let key = keptKeys.get(publicKey);
  key ??= createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
  keptKeys.delete(publicKey);
  keptKeys.set(publicKey, key);
  for (const oldest of keptKeys.keys()) {
    if (keptKeys.size <= mostKeptKeys) break;
    keptKeys.delete(oldest);
  }
  return key;
}

/** False for a wrong signature as for a key or signature that is none. */
export function verifySignature(publicKey: string, data: Uint8Array, signature: string): boolean {
  try {
    return verify(null, data, keyOf(publicKey), Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}
