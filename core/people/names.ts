/** Names of accounts and of the people behind them. */
import { userInfo } from 'node:os';
import { z } from 'zod';

/** What Anneal itself writes as an actor; an account of this name could pass for it. */
const reserved = ['anneal', 'coordinator', 'import', 'person', 'policy', 'site', 'system'];

/**
 * Stands in the audit trail for good, so it is plain: ASCII in lower case, in which no two names look alike. Never used
 * for a second person.
 */
export const accountName = z
  .string()
  .max(40)
  .regex(
    /^[a-z][a-z0-9]*([._-][a-z0-9]+)*$/,
    'use small letters, digits, and single dots, hyphens or underscores between them',
  )
  .min(2)
  .refine((name) => !reserved.includes(name), 'Anneal uses this name itself');

/** How the person is called on the screens: any script, one form (NFC), nothing invisible. */
export const displayName = z
  .string()
  .max(200)
  .transform((text) => text.normalize('NFC').trim())
  .pipe(
    z
      .string()
      .min(1)
      .max(80)
      .regex(/^[^\p{C}\p{Zl}\p{Zp}]*$/u, 'holds invisible characters'),
  );

/** Who acts without an account. Spaces and brackets: no account can have this name. */
export function ownerName(how: 'this computer' | 'access code'): string {
  return `${osUser()} (${how})`;
}

/** The operating system's user that runs this agent; some systems have none for a number. */
export function osUser(): string {
  try {
    return userInfo().username;
  } catch {
    return `user ${process.getuid?.() ?? 'unknown'}`;
  }
}
