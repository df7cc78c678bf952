/** The people of an installation: accounts, sessions, and who sends a request. */
import { z } from 'zod';
import { allRoles } from '../config/roles.ts';
import { AppError } from '../shared/errors.ts';
import type { Store } from '../store/store.ts';
import { activeUser, hasActive } from './accounts.ts';
import { ownerName } from './names.ts';
import type { Person } from './person.ts';
import { type Channel, createSessions, type Sessions } from './sessions.ts';
import { createSignIns, isInUse, type SignIns } from './sign-in.ts';

export const peopleSettings = z.strictObject({
  /** Also in the desktop app everybody signs in by name; the command line stays with the operating system's user. */
  everybodySignsIn: z.boolean().default(false),
  /** Minutes without anything done by a person, after which a session locks. */
  lockAfterMinutes: z.int().min(1).max(480).default(15),
});
export type PeopleSettings = z.output<typeof peopleSettings>;

const settingsKey = 'people.settings';

/** How a request came in. */
export interface Caller {
  channel: Channel;
  /** Sent by the screens, not by the command line. */
  isScreen: boolean;
  /** From the session cookie. */
  token: string | null;
}

export interface People extends SignIns {
  readonly sessions: Sessions;
  settings(): PeopleSettings;
  /** @throws AppError USER_CONFLICT when everybody is to sign in and no account could administer */
  changeSettings(settings: PeopleSettings, actor: string): void;
  hasAccounts(): boolean;
  /** Who may act without an account over this way in; null when everybody signs in. */
  ownerOf(caller: Omit<Caller, 'token'>): string | null;
  whoIs(caller: Caller): Person;
}

/** @param now milliseconds since 1970, for how long sessions last */
export function createPeople(store: Store, now: () => number = Date.now): People {
  const settings = () => store.settings.get(settingsKey, peopleSettings) ?? peopleSettings.parse({});
  const sessions = createSessions({ lockAfterMinutes: () => settings().lockAfterMinutes, now });
  const hasAccounts = () => store.users.list().some(({ deactivatedAt }) => deactivatedAt === null);

  function ownerOf({ channel, isScreen }: Omit<Caller, 'token'>): string | null {
    if (channel === 'loopback') return isInUse(store) ? null : ownerName('access code');
    return isScreen && settings().everybodySignsIn ? null : ownerName('this computer');
  }

  function accountOf(token: string, channel: Channel): Person {
    const session = sessions.find(token, channel);
    const user = session === null ? null : activeUser(store, session.account);
    // A session that has ended is nobody's, and not the owner's: who acts must not change unnoticed.
    if (session === null || user === null) return { kind: 'nobody' };
    const { name: actor, displayName, roles } = user;
    const state = session.isLocked ? 'locked' : user.mustChange ? 'must-change' : 'open';
    return { kind: 'account', actor, displayName, roles, state, token };
  }

  return {
    ...createSignIns(store, sessions),
    sessions,
    settings,
    changeSettings(changed, actor) {
      if (changed.everybodySignsIn && !hasActive(store, 'administrator'))
        throw new AppError('USER_CONFLICT', 'There is no user who is an administrator yet.', {
          action: 'Add one first; otherwise nobody could manage users from the screens.',
        });
      store.transaction(() => {
        store.settings.set(settingsKey, peopleSettings.parse(changed));
        store.audit.append({ actor, action: 'sign-in-settings-changed', details: { ...changed } });
      });
    },
    hasAccounts,
    ownerOf,
    whoIs(caller) {
      if (caller.token !== null) return accountOf(caller.token, caller.channel);
      const owner = ownerOf(caller);
      return owner === null ? { kind: 'nobody' } : { kind: 'owner', actor: owner, roles: allRoles };
    },
  };
}
