/** What a coordinator hands to a site: one line of text that says where to go, whom to trust, and proves the invitation. */
import { createHash, createPrivateKey, type KeyObject, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { rawPublicKey } from '../transport/signature.ts';
import { isTopicName } from '../transport/topics.ts';

const invitationSchema = z.strictObject({
  federation: z.string().refine(isTopicName),
  coordinatorName: z.string().min(1).max(200),
  /** `mqtts://host:port` */
  brokerUrl: z.string().max(300),
  /** Where to enrol when it is not the broker's usual address (external brokers). */
  enrolmentUrl: z.string().max(300).optional(),
  /** SHA-256 of the authority's certificate, lower-case hexadecimal. */
  caFingerprint: sha256Schema,
  /** Ed25519, base64url of the raw 32 bytes. */
  coordinatorPublicKey: z.base64url().length(43),
  /** 32 random bytes, base64url. */
  token: z.base64url().length(43),
  expiresAt: z.iso.datetime(),
});
export type Invitation = z.infer<typeof invitationSchema>;

const prefix = 'anneal-invitation-1';
const checksumLength = 10;
/** Letters of the text; mail programs break long lines, and the pieces are joined again. */
const maxLength = 4000;

/** One line, about 500 letters, to send by mail or to put in a file. It holds a secret. */
export function createInvitation(invitation: Invitation): string {
  const payload = Buffer.from(JSON.stringify(invitationSchema.parse(invitation))).toString('base64url');
  return `${prefix}.${payload}.${checksum(payload)}`;
}

function checksum(payload: string): string {
  return createHash('sha256').update(payload).digest('base64url').slice(0, checksumLength);
}

/** Spaces and line breaks don't matter. @throws AppError INVITATION_INVALID for any other damage */
export function parseInvitation(text: string): Invitation {
  const compact = text.replace(/[\s\u200b>]+/g, '');
  if (compact.length > maxLength) throw invalid('The text is too long for an invitation.');
  if (!compact.startsWith(`${prefix}.`)) {
    throw invalid(`The text is not an invitation; one starts with "${prefix}".`);
  }
  const [, payload, given, ...rest] = compact.split('.');
  if (payload === undefined || given === undefined || rest.length > 0 || checksum(payload) !== given) {
    throw invalid('The invitation is incomplete or was changed in transit.');
  }
  try {
    return invitationSchema.parse(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')));
  } catch (error) {
    throw new AppError('INVITATION_INVALID', 'The invitation was made by another version of Anneal.', {
      cause: error,
    });
  }
}

function invalid(message: string): AppError {
  return new AppError('INVITATION_INVALID', message);
}

/** A new one-time token: 32 random bytes, base64url. */
export function createToken(): string {
  return randomBytes(32).toString('base64url');
}

/** PKCS #8 header of a raw Ed25519 seed, RFC 8410 section 7. */
const ed25519Header = Buffer.from('302e020100300506032b657004220420', 'hex');

/**
 * A token is the seed of an Ed25519 key that signs the request to join. So the token itself never travels,
 * and what the coordinator keeps, a hash of the public half, lets nobody join who reads its database.
 */
export function tokenKey(token: string): KeyObject {
  const seed = Buffer.from(token, 'base64url');
  return createPrivateKey({ key: Buffer.concat([ed25519Header, seed]), format: 'der', type: 'pkcs8' });
}

/** What the coordinator stores of a token: SHA-256 of its public key, lower-case hexadecimal. */
export function hashToken(token: string): string {
  return hashTokenPublicKey(rawPublicKey(tokenKey(token)));
}

/** @param publicKey base64url of the raw 32 bytes */
export function hashTokenPublicKey(publicKey: string): string {
  return sha256(Buffer.from(publicKey, 'base64url'));
}

/** An id for topics, common names and client ids from a name that people gave: `klinik-nord-4k2p9x`. */
export function nameToId(name: string): string {
  const slug = name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 40)
    .replace(/-+$/, '');
  const suffix = randomBytes(8).readBigUInt64BE().toString(36).padStart(13, '0').slice(-6);
  // Ids that start with `enrol-` are those of connections without a certificate.
  return slug === '' || slug.startsWith('enrol') ? `site-${suffix}` : `${slug}-${suffix}`;
}
