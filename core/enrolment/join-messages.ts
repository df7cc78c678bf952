/** What travels while a site joins: its request, proved by the token and by its own key, and the answer. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import { createSigner, type Signer, verifySignature } from '../transport/signature.ts';
import { isTopicName } from '../transport/topics.ts';
import { tokenKey } from './invitation.ts';

const maxRequestBytes = 16 * 1024;

const topicNameSchema = z.string().max(64).refine(isTopicName);
const publicKeySchema = z.base64url().length(43);
const signatureSchema = z.base64url().length(86);

export const joinRequestSchema = z.strictObject({
  v: z.literal(1),
  federation: topicNameSchema,
  /** Id of this enrolment, also in the topic. */
  id: topicNameSchema,
  siteName: z.string().min(1).max(200),
  /** The key that will sign the site's messages. */
  publicKey: publicKeySchema,
  /** PKCS #10, PEM. */
  certificateRequest: z.string().max(4000),
  /** Public half of the token's key. */
  tokenPublicKey: publicKeySchema,
  /** By the token's key: whoever asks was invited. */
  tokenSignature: signatureSchema,
  /** By the site's key: it holds it. */
  signature: signatureSchema,
});
export type JoinRequest = z.infer<typeof joinRequestSchema>;
type JoinClaims = Omit<JoinRequest, 'tokenSignature' | 'signature'>;

function signedBytes(claims: JoinClaims): Uint8Array {
  return Buffer.from(`anneal join 1\n${canonicalJson(claims)}`, 'utf8');
}

export function sealJoinRequest(
  claims: Omit<JoinClaims, 'v' | 'publicKey' | 'tokenPublicKey'>,
  token: string,
  signer: Signer,
): Uint8Array {
  const invited = createSigner('token', tokenKey(token));
  const all = { v: 1, ...claims, publicKey: signer.publicKey, tokenPublicKey: invited.publicKey } as const;
  const bytes = signedBytes(all);
  const request = { ...all, tokenSignature: invited.sign(bytes), signature: signer.sign(bytes) };
  return Buffer.from(canonicalJson(request), 'utf8');
}

/** Parses and checks both signatures. @throws AppError MESSAGE_INVALID */
export function openJoinRequest(bytes: Uint8Array, federation: string, id: string): JoinRequest {
  const request = parse(bytes);
  const { tokenSignature, signature, ...claims } = request;
  const signed = signedBytes(claims);
  if (
    claims.federation !== federation ||
    claims.id !== id ||
    !verifySignature(claims.tokenPublicKey, signed, tokenSignature) ||
    !verifySignature(claims.publicKey, signed, signature)
  ) {
    throw new AppError('MESSAGE_INVALID', 'A request to join with an invalid signature arrived.');
  }
  return request;
}

/** Public half of the token that a request names, its signatures not looked at; null when it is no request. */
export function tokenOf(bytes: Uint8Array): string | null {
  try {
    return parse(bytes).tokenPublicKey;
  } catch {
    return null;
  }
}

function parse(bytes: Uint8Array): JoinRequest {
  if (bytes.length <= maxRequestBytes) {
    try {
      return joinRequestSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
    } catch {}
  }
  throw new AppError('MESSAGE_INVALID', 'A malformed request to join arrived.');
}

/** Answers travel in envelopes that the coordinator signs, addressed to the enrolment's id. */
export const joinAnswers = {
  enrolled: z.strictObject({
    siteId: topicNameSchema,
    siteName: z.string().min(1).max(200),
    /** PEM. */
    certificate: z.string().max(8000),
    authority: z.string().max(8000),
    coordinatorName: z.string().min(1).max(200),
  }),
  refused: z.strictObject({
    code: z.enum(['INVITATION_INVALID', 'INVITATION_USED', 'INVITATION_EXPIRED', 'INTERNAL']),
  }),
} as const;
export type EnrolledBody = z.infer<(typeof joinAnswers)['enrolled']>;
export type RefusalCode = z.infer<(typeof joinAnswers)['refused']>['code'];
