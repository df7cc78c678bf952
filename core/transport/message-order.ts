/**
 * In which order the messages of a sender were made: by its own numbers, not by anybody's clock. A number belongs to a life of
 * the sender's store (`epoch`); `counter` is written there before a message that others rely on leaves, `part` counts what
 * is said in between.
 */
import { z } from 'zod';

export const epochSchema = z.string().regex(/^[0-9a-f]{32}$/);
/** A hundred messages a second for thirty years. */
export const counterSchema = z.int().min(0).max(1e11);

export const orderSchema = z.strictObject({
  epoch: epochSchema,
  counter: counterSchema,
  part: counterSchema,
});
export type MessageOrder = z.infer<typeof orderSchema>;

/** Whether `a` was made after `b`; both of one epoch. */
export const isLater = (
  a: Pick<MessageOrder, 'counter' | 'part'>,
  b: Pick<MessageOrder, 'counter' | 'part'>,
): boolean => a.counter > b.counter || (a.counter === b.counter && a.part > b.part);
