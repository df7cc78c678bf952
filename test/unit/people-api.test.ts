/** Every procedure of the API by everybody who may send it, over a real agent's socket and loopback. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Me } from '../../core/api/contract.ts';
import { appRouter } from '../../core/api/router.ts';
import { allRoles, type Role } from '../../core/config/roles.ts';
import { defaultSitePolicy, type SitePolicy } from '../../core/config/site-policy.ts';
import { osUser } from '../../core/people/names.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { goodPassword } from '../fixtures/people.ts';
import { type Client, type PeopleAgent, startPeopleAgent } from '../fixtures/people-agent.ts';

interface Definition {
  type: 'query' | 'mutation' | 'subscription';
  meta?: { roles?: readonly Role[]; open?: true };
}

const procedures = Object.entries(
  appRouter._def.procedures as unknown as Record<string, { _def: Definition }>,
).map(([path, { _def }]) => ({ path, ..._def }));

/** What the sign-in screen needs; anything more would be a hole. */
const openOnes = ['me', 'signIn', 'signOut', 'lock', 'unlock', 'changePassword'].map(
  (name) => `people.${name}`,
);

let agent: PeopleAgent;
const by = new Map<Role | 'nobody', Client>();

beforeAll(async () => {
  agent = await startPeopleAgent();
  await agent.signedIn('root.admin', ['administrator']);
  by.set('nobody', await agent.browser());
  for (const role of allRoles) by.set(role, await agent.signedIn(`only.${role}`, [role]));
  // Each signs in with a password, which takes as long as it should.
}, 60_000);

afterAll(() => agent?.[Symbol.asyncDispose]());

test('every procedure takes a role, but for those of the sign-in screen', () => {
  const without = procedures.filter(({ meta }) => meta?.roles === undefined);

  expect(procedures.length).toBeGreaterThan(40);
  expect(without.map(({ path }) => path).sort()).toEqual([...openOnes].sort());
  expect(without.every(({ meta }) => meta?.open === true)).toBe(true);
});

test('what changes something takes more than looking does, but for the sign of a person', () => {
  const changing = procedures.filter(({ type, meta }) => type === 'mutation' && meta?.roles?.length === 0);

  expect(changing.map(({ path }) => path)).toEqual(['people.active']);
});

const guarded = procedures.filter(({ meta, type }) => meta?.roles !== undefined && type !== 'subscription');

describe.each(guarded)('$path', ({ path, type, meta }) => {
  /** Refused for its input or by its own rules: it was let in. An input that no procedure takes, so that nothing happens. */
  const call = (who: Role | 'nobody') =>
    type === 'query' ? by.get(who)!.query(path, { no: 'input' }) : by.get(who)!.mutate(path, { no: 'input' });
  const needed = meta!.roles!;

  test('is refused to whoever is not signed in', async () => {
    expect((await call('nobody')).error?.code).toBe('SIGN_IN_NEEDED');
  });

  test.each(allRoles)('by a %s, as its roles say', async (role) => {
    const isAllowed = needed.length === 0 || needed.includes(role);
    // Those without an input would be done: setup, pausing, the sign of a person.
    if (isAllowed && ['setup.demo', 'people.active'].includes(path)) return;

    const { error } = await call(role);

    expect(error?.code === 'ROLE_MISSING').toBe(!isAllowed);
    expect(error?.code).not.toBe('SIGN_IN_NEEDED');
  });
});

test('the stream of events is refused to whoever is not signed in, and ends when the session does', async () => {
  const stranger = await by.get('nobody')!.query('events');
  const { context } = agent.running.agent;
  const token = context.people.sessions.open('only.viewer', 'loopback');
  const caller = { channel: 'loopback', isScreen: true, token } as const;
  const person = context.people.whoIs(caller);
  const stream = (await appRouter
    .createCaller({ agent: context, caller, person, setSession: () => {} })
    .events()) as AsyncIterable<unknown>;
  const events = stream[Symbol.asyncIterator]();
  const first = events.next();
  context.emit({ type: 'changed', what: 'status' });
  await first;
  const next = events.next();
  context.people.sessions.lock(token);
  context.emit({ type: 'changed', what: 'status' });

  expect(stranger.data).toContain('SIGN_IN_NEEDED');
  expect(await first).toMatchObject({ done: false });
  expect(await next).toMatchObject({ done: true });
});

test('what somebody does is written down under their name', async () => {
  const { store } = agent.running.agent.context;
  const root = await agent.signedIn('root.admin', []);
  await root.mutate('people.changeSettings', { everybodySignsIn: false, lockAfterMinutes: 20 });
  await agent.owner.mutate('people.changeSettings', { everybodySignsIn: false, lockAfterMinutes: 15 });

  const actors = store.audit.page({ limit: 2 }).map(({ actor }) => actor);
  expect(actors).toEqual([`${osUser()} (this computer)`, 'root.admin']);
});

describe('the desktop app', () => {
  const meOf = async (client: Client) => (await client.query('people.me')).data as Me;

  test('belongs to the operating system’s user until everybody is to sign in', async () => {
    const window = agent.desktop();
    const before = await meOf(window);
    await agent.owner.mutate('people.changeSettings', { everybodySignsIn: true, lockAfterMinutes: 15 });
    const after = await meOf(window);
    const refused = await window.query('status');
    const cli = await agent.owner.query('status');
    await agent.signedIn('root.admin', [], window);
    const signedIn = await window.query('status');
    await window.mutate('people.signOut');
    const signedOut = await meOf(window);
    await agent.owner.mutate('people.changeSettings', { everybodySignsIn: false, lockAfterMinutes: 15 });

    expect([before.state, before.actor]).toEqual(['open', `${osUser()} (this computer)`]);
    expect([after.state, after.owner]).toEqual(['signed-out', null]);
    expect(refused.error?.code).toBe('SIGN_IN_NEEDED');
    expect([cli.error, signedIn.error]).toEqual([null, null]);
    expect(signedOut.state).toBe('signed-out');
  });
});

test('a locked session shows and does nothing; its person, or another one, goes on', async () => {
  const client = await agent.signedIn('only.viewer', []);
  await client.mutate('people.lock');
  const me = (await client.query('people.me')).data as Me;
  const refused = await Promise.all([
    client.query('status'),
    client.mutate('people.changePassword', { current: goodPassword, next: 'four words of another kind' }),
  ]);
  const wrong = await client.mutate('people.unlock', { password: 'wrong' });
  const right = await client.mutate('people.unlock', { password: goodPassword });
  await client.mutate('people.lock');
  await agent.signedIn('root.admin', [], client);
  const other = (await client.query('people.me')).data as Me;

  expect([me.state, me.actor]).toEqual(['locked', 'only.viewer']);
  expect(refused.map(({ error }) => error?.code)).toEqual(['SESSION_LOCKED', 'SESSION_LOCKED']);
  expect(wrong.error?.code).toBe('SIGN_IN_FAILED');
  expect((right.data as Me).state).toBe('open');
  expect([other.state, other.actor]).toEqual(['open', 'root.admin']);
});

test('no answer holds a hash of a password, and no error the password', async () => {
  const { data } = await by.get('administrator')!.query('people.list');
  const { error } = await by.get('administrator')!.mutate('people.changePassword', {
    current: goodPassword,
    next: 'tinysecret',
  });

  expect((data as { users: unknown[] }).users.length).toBeGreaterThan(4);
  expect(JSON.stringify(data)).not.toMatch(/argon2|password_?hash/i);
  expect(error?.code).toBe('PASSWORD_REFUSED');
  expect(JSON.stringify(error)).not.toContain('tinysecret');
});

test('a rule of two people takes somebody who could be the second: by their role, and to weaken the policy again', async () => {
  const { store } = agent.running.agent.context;
  const root = await agent.signedIn('root.admin', []);
  const setRoles = (name: string, roles: Role[]) => root.mutate('people.setRoles', { name, roles });
  const answers: Record<string, unknown> = {};
  const ask = async (name: string, policy: Partial<SitePolicy>) => {
    const { error } = await agent.owner.mutate('site.setPolicy', {
      policy: { ...defaultSitePolicy, ...policy },
    });
    answers[name] = error === null ? 'saved' : [error.code, error.action];
  };
  await setRoles('only.data-manager', ['viewer']);
  await ask('erase: no data manager', { twoPersonErasure: true });
  await ask('approve: an approver', { twoPersonApproval: true });
  setPolicy(store, defaultSitePolicy, 'test');
  await setRoles('only.approver', ['viewer']);
  await setRoles('only.data-manager', ['data-manager']);
  await ask('erase: no approver', { twoPersonErasure: true });
  await ask('approve: no approver', { twoPersonApproval: true });
  await setRoles('only.approver', ['approver']);
  await ask('erase: both', { twoPersonErasure: true });
  setPolicy(store, defaultSitePolicy, 'test');

  const missing = (role: string) => ['USER_CONFLICT', `Add a user with the role "${role}" first.`];
  expect(answers).toEqual({
    'erase: no data manager': missing('data-manager'),
    'approve: an approver': 'saved',
    'erase: no approver': missing('approver'),
    'approve: no approver': missing('approver'),
    'erase: both': 'saved',
  });
}, 60_000);
