/**
 * Every message is a signed envelope: canonical JSON (RFC 8785) with an Ed25519 signature over all other
 * fields. It is bound to a federation, a sender, a recipient and a type, so a signed message means the same
 * wherever it turns up.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import { type MessageOrder, orderSchema } from './message-order.ts';
import type { Stamp } from './own-position.ts';
import { isSaidBy, type SignedPosition, signedPositionSchema } from './position.ts';
import { type Signer, verifySignature } from './signature.ts';
import { isTopicName } from './topics.ts';

/** Envelopes are small; whatever is large travels as a blob. */
export const maxEnvelopeBytes = 128 * 1024;

const nameSchema = z.string().max(64).refine(isTopicName);
export const envelopeSchema = z.strictObject({
  v: z.literal(1),
  federation: nameSchema,
  sender: nameSchema,
  /** Null: for everybody in the federation. */
  recipient: nameSchema.nullable(),
  type: z.string().regex(/^[a-z-]{1,40}$/),
  id: z.uuid(),
  /** When it was sealed, by the sender's clock: for people and for measuring clocks, never for an order. */
  at: z.iso.datetime().max(40),
  /** Its place among the sender's messages; absent from senders of version 0.1, and where it would tell when something happened. */
  order: orderSchema.optional(),
  /** Where the sender stands. */
  position: signedPositionSchema.optional(),
  body: z.unknown(),
  signature: z.base64url().length(86),
});
type Envelope = z.infer<typeof envelopeSchema>;

export interface SealOptions {
  federation: string;
  recipient?: string;
  type: string;
  /** A plain JSON value. */
  body: unknown;
  /** Default: a new one. Give it to repeat a message that the outbox kept. */
  id?: string;
  /** Default: now. */
  at?: Date;
  /** Its place, for receivers that know of places. */
  stamp?: Stamp | undefined;
}

/** @throws AppError MESSAGE_INVALID when the message would be larger than {@link maxEnvelopeBytes} */
export function sealEnvelope(options: SealOptions, signer: Signer): Uint8Array {
  const unsigned: Omit<Envelope, 'signature'> = {
    v: 1,
    federation: options.federation,
    sender: signer.id,
    recipient: options.recipient ?? null,
    type: options.type,
    id: options.id ?? randomUUID(),
    at: (options.at ?? new Date()).toISOString(),
    body: options.body,
    ...(options.stamp ?? {}),
  };
  const signature = signer.sign(signedBytes(unsigned));
  const bytes = Buffer.from(canonicalJson({ ...unsigned, signature }), 'utf8');
  if (bytes.length > maxEnvelopeBytes) {
    throw new AppError('MESSAGE_INVALID', 'An outgoing message is larger than the protocol allows.');
  }
  return bytes;
}

function signedBytes(unsigned: Omit<Envelope, 'signature'>): Uint8Array {
  return Buffer.from(`anneal envelope 1\n${canonicalJson(unsigned)}`, 'utf8');
}

export interface OpenedEnvelope<Type extends string, Body> {
  type: Type;
  body: Body;
  sender: string;
  id: string;
  at: Date;
  /** Null from a sender that gives its messages no place. */
  order: MessageOrder | null;
  position: SignedPosition | null;
}

type Opened<Bodies extends Record<string, z.ZodType>> = {
  [Type in keyof Bodies & string]: OpenedEnvelope<Type, z.output<Bodies[Type]>>;
}[keyof Bodies & string];

export interface OpenOptions<Bodies extends Record<string, z.ZodType>> {
  federation: string;
  /** Who reads it: an envelope for somebody else is refused. Leave out to accept those for everybody only. */
  recipient?: string;
  /** Public key of a sender (base64url), null when it is unknown or revoked. */
  keyOf(sender: string): string | null;
  /** Sender that the topic it came on belongs to. */
  sender?: string;
  /** Types that may come here. */
  bodies: Bodies;
}

/**
 * Parses and verifies. Replays are for the caller to find: by (sender, id), see replay-guard.ts.
 * @throws AppError MESSAGE_INVALID; its sentence holds nothing of the message
 */
export function openEnvelope<const Bodies extends Record<string, z.ZodType>>(
  bytes: Uint8Array,
  options: OpenOptions<Bodies>,
): Opened<Bodies> {
  const { signature, ...unsigned } = parseEnvelope(bytes);
  if (unsigned.federation !== options.federation) throw invalid('A message from another federation arrived.');
  if (options.sender !== undefined && unsigned.sender !== options.sender) {
    throw invalid('A message arrived on the topic of another sender.');
  }
  if (unsigned.recipient !== null && unsigned.recipient !== options.recipient) {
    throw invalid('A message for another recipient arrived.');
  }
  const publicKey = options.keyOf(unsigned.sender);
  if (publicKey === null) throw invalid('A message from an unknown sender arrived.');
  if (!verifySignature(publicKey, signedBytes(unsigned), signature)) {
    throw invalid('A message with an invalid signature arrived.');
  }
  const schema = Object.hasOwn(options.bodies, unsigned.type) ? options.bodies[unsigned.type] : undefined;
  if (schema === undefined) throw invalid('A message of an unexpected type arrived.');
  const body = schema.safeParse(unsigned.body);
  if (!body.success) throw invalid('A message with unexpected content arrived.');
  const { sender, type, id, at, order = null, position = null } = unsigned;
  if (position !== null && !isSaidBy(position, options.federation, { id: sender, publicKey }))
    throw invalid('A message with a statement of somebody else arrived.');
  return { type, body: body.data, sender, id, at: new Date(at), order, position } as Opened<Bodies>;
}

/** As {@link openEnvelope}; null for what is no message, where the sender is held to account and nobody else hears. */
export function openIfValid<const Bodies extends Record<string, z.ZodType>>(
  bytes: Uint8Array,
  options: OpenOptions<Bodies>,
): Opened<Bodies> | null {
  try {
    return openEnvelope(bytes, options);
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === 'MESSAGE_INVALID') return null;
    throw thrown;
  }
}

function parseEnvelope(bytes: Uint8Array): Envelope {
  if (bytes.length > maxEnvelopeBytes) throw invalid('A message larger than the protocol allows arrived.');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('A message that is not JSON arrived.');
  }
  const envelope = envelopeSchema.safeParse(value);
  if (!envelope.success) throw invalid('A message without a valid envelope arrived.');
  return envelope.data;
}

function invalid(message: string): AppError {
  return new AppError('MESSAGE_INVALID', message);
}
