/** Signing in with a name and a password, unlocking, changing the password. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { createSerialQueue } from '../shared/serial.ts';
import type { UserRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { activeUser } from './accounts.ts';
import { createGuesses } from './guesses.ts';
import { hashPassword, isPassword, nobodysHash } from './password-hash.ts';
import { checkPassword } from './password-rules.ts';
import type { Channel, Sessions } from './sessions.ts';

export interface SignIns {
  /** @returns the token of a new session @throws AppError SIGN_IN_FAILED | TOO_MANY_TRIES */
  signIn(name: string, password: string, channel: Channel): Promise<string>;
  /** The same person goes on. @throws AppError SIGN_IN_FAILED | TOO_MANY_TRIES */
  unlock(name: string, password: string, token: string): Promise<void>;
  /** Ends the other sessions of the account. @throws AppError SIGN_IN_FAILED | TOO_MANY_TRIES | PASSWORD_REFUSED */
  changePassword(name: string, change: { current: string; next: string }, token: string): Promise<void>;
}

const inUseKey = 'people.inUse';

/**
 * Whether somebody has ever chosen a password here. Until then the access code is enough in a browser, so that whoever adds
 * the first user is not shut out by it; from then on for good.
 */
export const isInUse = (store: ReadOnlyStore): boolean =>
  store.settings.get(inUseKey, z.literal(true)) === true;

/** Somebody has chosen a password. */
export const putInUse = (store: Store): void => store.settings.set(inUseKey, true);

/** The same words whatever is wrong: names can't be found out. */
const failed = () => new AppError('SIGN_IN_FAILED', 'The name or the password is not right.');

const isOver = (user: UserRecord, now: string) =>
  user.passwordExpiresAt !== null && user.passwordExpiresAt <= now;

export function createSignIns(store: Store, sessions: Sessions): SignIns {
  const guesses = createGuesses();
  /** One at a time: guesses in parallel would all be let in before the first one is counted, and each takes 19 MiB. */
  const queue = createSerialQueue();

  async function verify(name: string, password: string): Promise<UserRecord> {
    await guesses.mayTry(name);
    const before = activeUser(store, name);
    const isRight = await isPassword(password, before?.passwordHash ?? nobodysHash);
    // Deactivated or given another password while it was being computed.
    const user = activeUser(store, name);
    if (
      !isRight ||
      user === null ||
      user.passwordHash !== before?.passwordHash ||
      isOver(user, store.now())
    ) {
      const waits = await guesses.failed(name);
      // Only names that exist: people type passwords into the wrong field.
      if (waits && before !== null)
        store.audit.append({ actor: 'anneal', action: 'sign-in-blocked', details: { user: name } });
      throw failed();
    }
    await guesses.succeeded(name);
    return user;
  }

  return {
    signIn: (name, password, channel) =>
      queue.run(async () => {
        await verify(name, password);
        store.audit.append({ actor: name, action: 'signed-in', details: { channel } });
        return sessions.open(name, channel);
      }),
    unlock: (name, password, token) =>
      queue.run(async () => {
        await verify(name, password);
        sessions.unlock(token);
      }),
    changePassword: (name, { current, next }, token) =>
      queue.run(async () => {
        const user = await verify(name, current);
        if (next === current)
          throw new AppError('PASSWORD_REFUSED', 'The new password is the old one.', {
            action: 'Choose another one.',
          });
        await checkPassword(next, [user.name, user.displayName]);
        const passwordHash = await hashPassword(next);
        store.transaction(() => {
          if (store.users.get(name)?.passwordHash !== user.passwordHash) throw failed();
          store.users.change(name, { passwordHash, mustChange: false, passwordExpiresAt: null });
          putInUse(store);
          store.audit.append({ actor: name, action: 'user-password-changed', details: { user: name } });
        });
        sessions.closeAllOf(name, token);
      }),
  };
}
