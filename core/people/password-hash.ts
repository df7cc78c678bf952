/**
 * Passwords as they are kept: argon2id in the PHC string format (github.com/P-H-C/phc-string-format). One implementation
 * on every platform: node:crypto has argon2 only from 24.7 on, and not every pinned Node is that new.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { argon2idAsync } from '@noble/hashes/argon2.js';

/**
 * OWASP's recommendation for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane. Measured here: 0.3 s
 * on one core of a server of 2024, which a person hardly notices and a guesser does.
 */
const cost = { m: 19 * 1024, t: 2, p: 1 } as const;
const hashBytes = 32;
const saltBytes = 16;
const phc =
  /^\$argon2id\$v=19\$m=(?<m>\d{1,7}),t=(?<t>\d{1,2}),p=(?<p>\d{1,2})\$(?<salt>[A-Za-z0-9+/]{22,86})\$(?<hash>[A-Za-z0-9+/]{43})$/;

const unpadded = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64').replace(/=+$/, '');

/** The same password typed on another keyboard or system: NFKC, as NIST SP 800-63B asks. */
const bytesOf = (password: string) => Buffer.from(password.normalize('NFKC'), 'utf8');

/** Of argon2id: memory in KiB, passes, lanes (RFC 9106). */
export interface Argon2Cost {
  readonly m: number;
  readonly t: number;
  readonly p: number;
}

/** 32 bytes that follow from a password and a salt; every guess costs as much. Lets other work go on meanwhile. */
export function deriveFromPassword(
  password: string,
  salt: Uint8Array,
  { m, t, p }: Argon2Cost,
): Promise<Uint8Array> {
  return argon2idAsync(bytesOf(password), salt, { m, t, p, dkLen: hashBytes, version: 0x13 });
}

/** @returns `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` with a new salt */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(saltBytes);
  const hash = await deriveFromPassword(password, salt, cost);
  return `$argon2id$v=19$m=${cost.m},t=${cost.t},p=${cost.p}$${unpadded(salt)}$${unpadded(hash)}`;
}

/** False, too, for a stored text that is no hash of ours. Takes as long for a wrong password as for the right one. */
export async function isPassword(password: string, stored: string): Promise<boolean> {
  const parts = phc.exec(stored)?.groups;
  if (parts === undefined) return false;
  const [m, t, p] = [Number(parts['m']), Number(parts['t']), Number(parts['p'])];
  const hash = await deriveFromPassword(password, Buffer.from(parts['salt']!, 'base64'), { m, t, p });
  return timingSafeEqual(hash, Buffer.from(parts['hash']!, 'base64'));
}

/** A hash of nobody's password: what an unknown name is compared with, so that it takes as long as a known one. */
export const nobodysHash = `$argon2id$v=19$m=${cost.m},t=${cost.t},p=${cost.p}$${unpadded(randomBytes(saltBytes))}$${unpadded(randomBytes(hashBytes))}`;
