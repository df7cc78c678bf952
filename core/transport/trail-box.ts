/**
 * The head of an audit trail as its owner gives it to others to keep: they can give it back, and read nothing in it. How many
 * rows a trail has, and when it grows, would tell when somebody has withdrawn.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Signer } from './signature.ts';

export interface TrailHead {
  rows: number;
  /** Hash of the newest row; 64 zeros when empty. */
  head: string;
}

const [ivBytes, tagBytes, headBytes] = [12, 16, 32];
const boxBytes = ivBytes + 8 + headBytes + tagBytes;
export const trailBoxSchema = z.base64url().length(Math.ceil((boxBytes * 4) / 3));

/** Ed25519 signatures are the same each time (RFC 8032), and this one is shown to nobody. */
const keyOf = (signer: Signer): Buffer =>
  createHash('sha256')
    .update(signer.sign(Buffer.from('anneal trail key 1', 'utf8')))
    .digest();

/** AES-256-GCM with a new nonce each time. */
export function closeTrail({ rows, head }: TrailHead, signer: Signer): string {
  const plain = Buffer.alloc(8 + headBytes);
  plain.writeBigUInt64BE(BigInt(rows));
  plain.write(head, 8, 'hex');
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv('aes-256-gcm', keyOf(signer), iv);
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString('base64url');
}

/** Null for what this signer has not closed. */
export function openTrail(box: string, signer: Signer): TrailHead | null {
  const bytes = Buffer.from(box, 'base64url');
  if (bytes.length !== boxBytes) return null;
  const decipher = createDecipheriv('aes-256-gcm', keyOf(signer), bytes.subarray(0, ivBytes), {
    authTagLength: tagBytes,
  });
  decipher.setAuthTag(bytes.subarray(-tagBytes));
  try {
    const plain = Buffer.concat([decipher.update(bytes.subarray(ivBytes, -tagBytes)), decipher.final()]);
    return { rows: Number(plain.readBigUInt64BE()), head: plain.toString('hex', 8) };
  } catch {
    return null;
  }
}
