/** Who sends a request, and what they may. */
import type { Role } from '../config/roles.ts';
import { AppError } from '../shared/errors.ts';

export type Person =
  /** The operating system's user, who owns the data folder, or in a browser whoever has the access code. */
  | { kind: 'owner'; actor: string; roles: readonly Role[] }
  | {
      kind: 'account';
      /** The account's name. */
      actor: string;
      displayName: string;
      roles: readonly Role[];
      /** `must-change`: signed in with a one-time password. */
      state: 'open' | 'locked' | 'must-change';
      token: string;
    }
  /** Has to sign in first. */
  | { kind: 'nobody' };

/** Whether this person may see anything at all. */
export const isOpen = (person: Person): boolean =>
  person.kind === 'owner' || (person.kind === 'account' && person.state === 'open');

/**
 * @param needed one of these is enough; none: any role will do
 * @throws AppError SIGN_IN_NEEDED | SESSION_LOCKED | PASSWORD_REFUSED | ROLE_MISSING
 */
export function requireRole(
  person: Person,
  needed: readonly Role[],
): asserts person is Exclude<Person, { kind: 'nobody' }> {
  if (person.kind === 'nobody') throw new AppError('SIGN_IN_NEEDED', 'Nobody is signed in.');
  if (person.kind === 'account') requireOpen(person.state);
  if (needed.length > 0 && !needed.some((role) => person.roles.includes(role)))
    throw new AppError(
      'ROLE_MISSING',
      `This needs the role ${needed.map((role) => `"${role}"`).join(' or ')}.`,
    );
}

function requireOpen(state: Extract<Person, { kind: 'account' }>['state']): void {
  if (state === 'locked') throw new AppError('SESSION_LOCKED', 'The session is locked.');
  if (state === 'must-change')
    throw new AppError(
      'SIGN_IN_NEEDED',
      'The one-time password is good for choosing a password of your own only.',
      {
        action: 'Choose a password first.',
      },
    );
}
