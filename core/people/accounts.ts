/** The accounts of an installation: who there is, what they may do, how they get a password. */
import type { Role } from '../config/roles.ts';
import { AppError } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import type { UserRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { hashPassword } from './password-hash.ts';
import { createOneTimePassword } from './password-rules.ts';
import type { Sessions } from './sessions.ts';

/** How long a one-time password may wait for its person. */
const oneTimeDays = 7;

/** What others may see of an account: nothing of its password. */
export interface Account {
  name: string;
  displayName: string;
  roles: Role[];
  isActive: boolean;
  /** Has not yet chosen a password since an administrator handed one out. */
  awaitsPassword: boolean;
  createdAt: string;
  createdBy: string;
  deactivatedAt: string | null;
}

/** Shown once to the administrator and kept nowhere. */
export interface HandedOut {
  account: Account;
  oneTimePassword: string;
  expiresAt: string;
}

export function accountOf(user: UserRecord): Account {
  return {
    ...pick(user, 'name', 'displayName', 'roles', 'createdAt', 'createdBy', 'deactivatedAt'),
    isActive: user.deactivatedAt === null,
    awaitsPassword: user.mustChange,
  };
}

/** Null when unknown or deactivated. */
export function activeUser(store: ReadOnlyStore, name: string): UserRecord | null {
  const user = store.users.get(name);
  return user === null || user.deactivatedAt !== null ? null : user;
}

/** Whether anybody with an account could act in a role. @param without who is left out of account */
export const hasActive = (store: ReadOnlyStore, role: Role, without?: string): boolean =>
  store.users
    .list()
    .some(
      ({ name, deactivatedAt, roles }) => name !== without && deactivatedAt === null && roles.includes(role),
    );

interface Context {
  store: Store;
  sessions: Sessions;
  /** Who does it. */
  actor: string;
}

function known(store: ReadOnlyStore, name: string): UserRecord {
  const user = store.users.get(name);
  if (user !== null) return user;
  throw new AppError('NOT_FOUND', `There is no user "${name}".`, { action: 'Look at the list of users.' });
}

/** Without one, nobody could add a user or give anybody a new password from the screens. */
function keepAnAdministrator(store: ReadOnlyStore, without: string): void {
  const { deactivatedAt, roles } = known(store, without);
  const isOne = deactivatedAt === null && roles.includes('administrator');
  if (!isOne || hasActive(store, 'administrator', without)) return;
  throw new AppError('USER_CONFLICT', `"${without}" is the last administrator.`, {
    action: 'Give another user the role of administrator first.',
  });
}

async function oneTime(store: Store, actor: string) {
  const oneTimePassword = createOneTimePassword();
  const at = store.now();
  const expiresAt = new Date(Date.parse(at) + oneTimeDays * 86_400_000).toISOString();
  const columns = {
    passwordHash: await hashPassword(oneTimePassword),
    mustChange: true,
    passwordExpiresAt: expiresAt,
    passwordGivenBy: actor,
    passwordGivenAt: at,
  };
  return { oneTimePassword, expiresAt, columns };
}

/** @throws AppError USER_CONFLICT when the name was ever used, or the first user is no administrator */
export async function addAccount(
  { store, actor }: Context,
  given: { name: string; displayName: string; roles: Role[] },
): Promise<HandedOut> {
  const { columns, ...handedOut } = await oneTime(store, actor);
  const user = store.transaction(() => {
    const existing = store.users.get(given.name);
    if (existing !== null)
      throw new AppError('USER_CONFLICT', `There is a user "${given.name}" already.`, {
        action:
          existing.deactivatedAt === null
            ? 'Choose another name.'
            : 'A name is never given to a second person. Reactivate the user if it is the same person, or choose another name.',
      });
    if (store.users.list().length === 0 && !given.roles.includes('administrator'))
      throw new AppError('USER_CONFLICT', 'The first user must be an administrator.', {
        action: 'Add the role "administrator"; it can be taken away when there is another one.',
      });
    const added = store.users.add({ ...given, ...columns, createdBy: actor });
    store.audit.append({ actor, action: 'user-added', details: { user: given.name, roles: given.roles } });
    return added;
  });
  return { account: accountOf(user), ...handedOut };
}

/** @throws AppError NOT_FOUND | USER_CONFLICT for the last administrator */
export function setRoles({ store, actor }: Context, name: string, roles: Role[]): Account {
  return store.transaction(() => {
    const before = known(store, name).roles;
    if (!roles.includes('administrator')) keepAnAdministrator(store, name);
    const user = store.users.change(name, { roles })!;
    store.audit.append({ actor, action: 'user-roles-changed', details: { user: name, before, roles } });
    return accountOf(user);
  });
}

/** Ends every session of the account. @throws AppError NOT_FOUND */
export async function resetPassword({ store, sessions, actor }: Context, name: string): Promise<HandedOut> {
  known(store, name);
  const { columns, ...handedOut } = await oneTime(store, actor);
  const user = store.transaction(() => {
    store.audit.append({ actor, action: 'user-password-reset', details: { user: name } });
    return store.users.change(name, columns)!;
  });
  sessions.closeAllOf(name);
  return { account: accountOf(user), ...handedOut };
}

/** Ends every session of the account. Its name stays in the audit trail. @throws AppError NOT_FOUND | USER_CONFLICT */
export function deactivate({ store, sessions, actor }: Context, name: string): Account {
  const user = store.transaction(() => {
    const before = known(store, name);
    if (before.deactivatedAt !== null) return before;
    keepAnAdministrator(store, name);
    store.audit.append({ actor, action: 'user-deactivated', details: { user: name } });
    return store.users.change(name, { deactivatedAt: store.now() })!;
  });
  sessions.closeAllOf(name);
  return accountOf(user);
}

/** The same person came back: with a new one-time password. @throws AppError NOT_FOUND */
export async function reactivate(context: Context, name: string): Promise<HandedOut> {
  const { store, actor } = context;
  known(store, name);
  const { columns, ...handedOut } = await oneTime(store, actor);
  const user = store.transaction(() => {
    store.audit.append({ actor, action: 'user-reactivated', details: { user: name } });
    return store.users.change(name, { ...columns, deactivatedAt: null })!;
  });
  context.sessions.closeAllOf(name);
  return { account: accountOf(user), ...handedOut };
}
