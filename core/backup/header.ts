/**
 * The first bytes of a backup: which format it is, and how its keys follow from the passphrase. The only part that
 * anybody can read. All numbers are big-endian.
 *
 * | bytes | what |
 * | --- | --- |
 * | 14 | `anneal backup\n` |
 * | 2 | version of the format |
 * | 4, 4, 4 | argon2id: memory in KiB, passes, lanes |
 * | 32 | salt, new for each backup |
 * | 32 | HMAC-SHA-256 of all before, with a key that only the passphrase gives |
 * | 32 | SHA-256 of all before: tells a damaged header from a wrong passphrase |
 */
import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Argon2Cost, deriveFromPassword } from '../people/password-hash.ts';
import { AppError } from '../shared/errors.ts';
import { unreadable } from './unreadable.ts';

const magic = Buffer.from('anneal backup\n', 'latin1');
export const formatVersion = 1;
const saltBytes = 32;
const hashBytes = 32;
const describedBytes = magic.length + 2 + 3 * 4 + saltBytes;
export const headerBytes = describedBytes + 2 * hashBytes;

/**
 * RFC 9106's second recommendation, in one lane: a backup may lie where anybody can try passphrases against it, for as
 * long as they like. About 3 s on one core of 2024.
 */
export const backupCost: Argon2Cost = { m: 64 * 1024, t: 3, p: 1 };

/** A header is read before anything of it can be trusted: it must not make this computer work for hours. */
const most: Argon2Cost = { m: 256 * 1024, t: 10, p: 4 };

interface Keys {
  header: Buffer;
  /** Of the stream, AES-256. Of this file alone: the salt is new for each. */
  stream: Buffer;
}

async function keysOf(passphrase: string, salt: Uint8Array, cost: Argon2Cost): Promise<Keys> {
  const master = await deriveFromPassword(passphrase, salt, cost);
  const key = (info: string) => Buffer.from(hkdfSync('sha256', master, salt, `anneal backup ${info}`, 32));
  return { header: key('header'), stream: key('stream') };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
const macOf = (key: Uint8Array, bytes: Uint8Array) => createHmac('sha256', key).update(bytes).digest();

export interface NewHeader {
  bytes: Buffer;
  streamKey: Buffer;
}

/** @param cost a smaller one for tests */
export async function createHeader(passphrase: string, cost = backupCost): Promise<NewHeader> {
  const salt = randomBytes(saltBytes);
  const described = Buffer.alloc(describedBytes);
  magic.copy(described);
  let at = described.writeUInt16BE(formatVersion, magic.length);
  for (const part of [cost.m, cost.t, cost.p]) at = described.writeUInt32BE(part, at);
  salt.copy(described, at);
  const keys = await keysOf(passphrase, salt, cost);
  const proven = Buffer.concat([described, macOf(keys.header, described)]);
  return { bytes: Buffer.concat([proven, sha256(proven)]), streamKey: keys.stream };
}

/**
 * @param bytes the first {@link headerBytes} of the file, or all of it when it is shorter
 * @returns the key of the stream
 * @throws AppError BACKUP_UNREADABLE | PASSPHRASE_WRONG
 */
export async function openHeader(bytes: Buffer, passphrase: string): Promise<Buffer> {
  if (bytes.length < magic.length || !bytes.subarray(0, magic.length).equals(magic))
    throw unreadable('This file is no backup made by Anneal.', {
      action: 'Give the file that "anneal backup" wrote. Nothing was changed.',
    });
  if (bytes.length < headerBytes) throw unreadable('The backup is cut off: only its first bytes are there.');
  const proven = bytes.subarray(0, headerBytes - hashBytes);
  if (!bytes.subarray(headerBytes - hashBytes, headerBytes).equals(sha256(proven)))
    throw unreadable('The first bytes of the backup are damaged, or of a later version of Anneal.');
  const version = bytes.readUInt16BE(magic.length);
  if (version > formatVersion) throw newerFormat(version);
  if (version !== formatVersion) throw unreadable(`The backup is of the unknown format ${version}.`);
  const at = magic.length + 2;
  const [m, t, p] = [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4), bytes.readUInt32BE(at + 8)];
  const cost: Argon2Cost = { m, t, p };
  if (!isBearable(cost)) throw unreadable('The backup asks for more work than any backup of Anneal does.');
  const keys = await keysOf(passphrase, bytes.subarray(at + 12, describedBytes), cost);
  const described = bytes.subarray(0, describedBytes);
  if (!timingSafeEqual(proven.subarray(describedBytes), macOf(keys.header, described)))
    throw new AppError('PASSPHRASE_WRONG', 'This passphrase does not open the backup.');
  return keys.stream;
}

const isBearable = ({ m, t, p }: Argon2Cost) =>
  p >= 1 && p <= most.p && t >= 1 && t <= most.t && m >= 8 * p && m <= most.m;

const newerFormat = (version: number) =>
  unreadable(
    `The backup was written by a newer Anneal (format ${version}; this version reads format ${formatVersion}).`,
    { action: 'Install the newer version of Anneal that wrote it. Nothing was changed.' },
  );
