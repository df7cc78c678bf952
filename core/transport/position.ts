/**
 * Where a side stands: a statement that it signs, sends along, and is shown again later. Whoever sees a statement of its own
 * that its store knows nothing of has gone back in time, and nobody else can make it believe so.
 */
import { z } from 'zod';
import { canonicalJson } from '../shared/hash.ts';
import { counterSchema, epochSchema } from './message-order.ts';
import { type Signer, verifySignature } from './signature.ts';
import { trailBoxSchema } from './trail-box.ts';

export const positionSchema = z.strictObject({
  epoch: epochSchema,
  counter: counterSchema,
  /** The process that speaks. */
  instance: z.uuid(),
  /** The run in progress, its round, 0-based, and how far that is: a word of the side that says it. */
  run: z
    .strictObject({
      id: z.string().min(1).max(64),
      round: z.int().min(0).max(1_000_000),
      state: z.string().max(20),
    })
    .nullable(),
  /** The head of its audit trail, readable for itself alone. */
  trail: trailBoxSchema,
});
export type StandingPosition = z.infer<typeof positionSchema>;

export const signedPositionSchema = z.strictObject({
  position: positionSchema,
  signature: z.base64url().length(86),
});
export type SignedPosition = z.infer<typeof signedPositionSchema>;

const signedBytes = (position: StandingPosition, federation: string, id: string): Uint8Array =>
  Buffer.from(`anneal position 1\n${canonicalJson({ federation, id, position })}`, 'utf8');

export const signPosition = (
  position: StandingPosition,
  federation: string,
  signer: Signer,
): SignedPosition => ({ position, signature: signer.sign(signedBytes(position, federation, signer.id)) });

/** Whether this is what `id` of the federation said. */
export const isSaidBy = (
  { position, signature }: SignedPosition,
  federation: string,
  { id, publicKey }: Pick<Signer, 'id' | 'publicKey'>,
): boolean => verifySignature(publicKey, signedBytes(position, federation, id), signature);
