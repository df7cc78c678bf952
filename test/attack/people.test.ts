/** Somebody at the screens, with the access code or as a user with few rights, wants to be somebody else. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Me } from '../../core/api/contract.ts';
import { appRouter } from '../../core/api/router.ts';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { goodPassword } from '../fixtures/people.ts';
import { type Client, type PeopleAgent, startPeopleAgent } from '../fixtures/people-agent.ts';

let agent: PeopleAgent;
let admin: Client;

beforeAll(async () => {
  agent = await startPeopleAgent();
  admin = await agent.signedIn('root.admin', ['administrator', 'approver']);
});

afterAll(() => agent?.[Symbol.asyncDispose]());

const meOf = async (client: Client) => (await client.query('people.me')).data as Me;
const passwords = [
  'Password1234',
  'velvet harbour',
  'velvet harbour cactus 82',
  'root.admin',
  'letmein letmein',
];
const personCookie = (client: Client) =>
  [...client.cookies].find(([name]) => name.startsWith('anneal_person'))!;

describe('passwords', () => {
  test('a few guesses are free, then the name waits, and the right password waits with it', async () => {
    await agent.signedIn('guessed', ['viewer']);
    const attacker = await agent.browser();
    const codes: (string | undefined)[] = [];
    for (let guess = 0; guess < 10; guess++)
      codes.push(
        (await attacker.mutate('people.signIn', { name: 'guessed', password: passwords[guess % 5] })).error
          ?.code,
      );

    const right = await attacker.mutate('people.signIn', { name: 'guessed', password: goodPassword });

    expect(codes.filter((code) => code === 'SIGN_IN_FAILED')).toHaveLength(5);
    expect(right.error?.code).toBe('TOO_MANY_TRIES');
    expect((await meOf(attacker)).state).toBe('signed-out');
  });

  test('names can’t be found out: by words, by time, or by being kept waiting', async () => {
    await agent.signedIn('known', ['viewer']);
    const attacker = await agent.browser();
    const times: Record<string, number[]> = { known: [], unknown: [] };
    const answers = new Set<string>();
    for (let round = 0; round < 4; round++)
      for (const name of ['known', 'unknown']) {
        const began = performance.now();
        const { error } = await attacker.mutate('people.signIn', { name, password: `wrong ${round}` });
        times[name]!.push(performance.now() - began);
        answers.add(JSON.stringify(error));
      }

    const least = (name: string) => Math.min(...times[name]!);
    expect(answers.size).toBe(1);
    // Coarse: an answer without the hash would come a hundred times sooner.
    expect(least('unknown') / least('known')).toBeGreaterThan(0.4);
    expect(least('unknown') / least('known')).toBeLessThan(2.5);
  });
});

describe('roles', () => {
  test('a user with few rights makes itself no administrator', async () => {
    const viewer = await agent.signedIn('eve', ['viewer', 'data-manager', 'approver']);
    const tries = await Promise.all([
      viewer.mutate('people.setRoles', { name: 'eve', roles: ['administrator'] }),
      viewer.mutate('people.add', { name: 'eve2', displayName: 'E', roles: ['administrator'] }),
      viewer.mutate('people.resetPassword', { name: 'root.admin' }),
      viewer.mutate('people.changeSettings', { everybodySignsIn: false, lockAfterMinutes: 480 }),
      viewer.mutate('people.signIn', { name: 'eve', password: goodPassword, roles: ['administrator'] }),
      viewer.mutate('setup.coordinator', { federation: 'Mine' }),
    ]);

    expect(tries.map(({ error }) => error?.code)).toEqual([
      ...['ROLE_MISSING', 'ROLE_MISSING', 'ROLE_MISSING', 'ROLE_MISSING', 'CONFIG_INVALID', 'ROLE_MISSING'],
    ]);
    expect((await meOf(viewer)).roles).not.toContain('administrator');
  });

  test('a role that was taken away is gone with the next click', async () => {
    const client = await agent.signedIn('former', ['administrator']);
    await admin.mutate('people.setRoles', { name: 'former', roles: ['viewer'] });

    expect((await client.mutate('people.resetPassword', { name: 'root.admin' })).error?.code).toBe(
      'ROLE_MISSING',
    );
  });

  test('the access code opens the sign-in and nothing behind it', async () => {
    const stranger = await agent.browser();
    const paths = Object.entries(
      appRouter._def.procedures as unknown as Record<
        string,
        { _def: { type: string; meta?: { open?: true } } }
      >,
    ).filter(([, { _def }]) => _def.meta?.open !== true);
    const got: string[] = [];
    for (const [path, { _def }] of paths) {
      const answer = await (_def.type === 'mutation' ? stranger.mutate(path) : stranger.query(path));
      const isRefused =
        answer.error?.code === 'SIGN_IN_NEEDED' || String(answer.data).includes('SIGN_IN_NEEDED');
      if (!isRefused) got.push(path);
    }

    expect(paths.length).toBeGreaterThan(40);
    expect(got).toEqual([]);
  });
});

describe('sessions', () => {
  test('a token that was planted before the sign-in is worth nothing after it', async () => {
    const victim = await agent.browser();
    const [name] = personCookie(admin);
    victim.cookies.set(name, 'planted-by-the-attacker-0000000000000000000');
    await agent.signedIn('fixated', ['viewer'], victim);
    const attacker = await agent.browser();
    attacker.cookies.set(name, 'planted-by-the-attacker-0000000000000000000');

    expect(personCookie(victim)[1]).not.toContain('planted');
    expect((await meOf(attacker)).state).toBe('signed-out');
  });

  test.each<[string, (victim: Client) => Promise<unknown>]>([
    ['sign-out', (victim) => victim.mutate('people.signOut')],
    ['deactivation', () => admin.mutate('people.deactivate', { name: 'stolen' })],
    ['a new one-time password', () => admin.mutate('people.resetPassword', { name: 'stolen' })],
    ['another person’s sign-in', (victim) => agent.signedIn('root.admin', [], victim)],
  ])('a stolen cookie is worth nothing after %s', async (_what, end) => {
    await admin.mutate('people.reactivate', { name: 'stolen' });
    const victim = await agent.browser();
    const added = await admin.mutate('people.add', { name: 'stolen', displayName: 'S', roles: ['viewer'] });
    const handedOut =
      added.error === null ? added : await admin.mutate('people.resetPassword', { name: 'stolen' });
    const { oneTimePassword } = handedOut.data as { oneTimePassword: string };
    await victim.mutate('people.signIn', { name: 'stolen', password: oneTimePassword });
    await victim.mutate('people.changePassword', { current: oneTimePassword, next: goodPassword });
    const thief = await agent.browser();
    thief.cookies.set(...personCookie(victim));
    const before = (await meOf(thief)).state;

    await end(victim);

    expect(before).toBe('open');
    expect((await meOf(thief)).state).toBe('signed-out');
    expect((await thief.query('status')).error?.code).toBe('SIGN_IN_NEEDED');
  });

  test('a stolen cookie of a locked session shows nothing, and does not unlock it', async () => {
    const victim = await agent.signedIn('locked.out', ['viewer']);
    const thief = await agent.browser();
    thief.cookies.set(...personCookie(victim));
    await victim.mutate('people.lock');
    await thief.mutate('people.active');

    expect((await thief.query('audit')).error?.code).toBe('SESSION_LOCKED');
    expect((await thief.mutate('people.unlock', { password: 'guess' })).error?.code).toBe('SIGN_IN_FAILED');
  });

  test('changing the password ends the sessions of whoever stole the old one', async () => {
    const victim = await agent.signedIn('changed', ['viewer']);
    const thief = await agent.signedIn('changed', []);
    await victim.mutate('people.changePassword', {
      current: goodPassword,
      next: 'quiet lantern seven rivers',
    });

    expect((await meOf(victim)).state).toBe('open');
    expect((await meOf(thief)).state).toBe('signed-out');
  });

  test('a cookie of the browser is none at the socket', async () => {
    const thief = agent.desktop();
    thief.cookies.set('anneal_person', personCookie(admin)[1]);

    expect((await meOf(thief)).state).toBe('signed-out');
  });
});

test('a page of another program on this machine asks nothing in a person’s name', async () => {
  const client = await agent.signedIn('browsing', ['administrator']);
  const own = new URL(agent.running.url!).origin;
  const forged: Record<string, string>[] = [
    { origin: 'http://127.0.0.1:9999' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'cross-site' },
    { host: 'evil.example' },
  ];
  const answers: (string | undefined)[] = [];
  for (const headers of forged) {
    client.headers = headers;
    answers.push((await client.mutate('people.deactivate', { name: 'root.admin' })).error?.code);
    answers.push((await client.query('audit')).error?.code);
  }
  client.headers = { origin: own, 'sec-fetch-site': 'same-origin' };

  expect(new Set(answers)).toEqual(new Set(['NOT_ALLOWED']));
  expect((await client.query('status')).error).toBeNull();
});

describe('two people', () => {
  test('nobody confirms what they proposed: not again, not as the owner, not with an account that they make', async () => {
    const { store } = agent.running.agent.context;
    const second = await agent.signedIn('second', ['approver']);
    setPolicy(store, { ...defaultSitePolicy, twoPersonApproval: true }, 'test');
    const weaker = { policy: { ...defaultSitePolicy, twoPersonApproval: false, minSubjects: 1 } };
    const proposed = await admin.mutate('site.setPolicy', weaker);
    const again = await admin.mutate('site.setPolicy', weaker);
    const owner = await agent.owner.mutate('site.setPolicy', weaker);
    const puppet = await agent.browser();
    const made = await admin.mutate('people.add', { name: 'puppet', displayName: 'P', roles: ['approver'] });
    const { oneTimePassword } = made.data as { oneTimePassword: string };
    await puppet.mutate('people.signIn', { name: 'puppet', password: oneTimePassword });
    await puppet.mutate('people.changePassword', { current: oneTimePassword, next: goodPassword });
    const byPuppet = await puppet.mutate('site.setPolicy', weaker);
    const before = store.sitePolicies.newest()!.policy as { minSubjects: number };
    const bySecond = await second.mutate('site.setPolicy', weaker);
    const after = store.sitePolicies.newest()!.policy as { minSubjects: number };

    expect((proposed.data as { proposed: unknown }).proposed).not.toBeNull();
    expect([again, owner, byPuppet].map(({ error }) => error?.code)).toEqual([
      ...['SECOND_PERSON_NEEDED', 'SECOND_PERSON_NEEDED', 'SECOND_PERSON_NEEDED'],
    ]);
    expect([before.minSubjects, after.minSubjects]).toEqual([5, 1]);
    expect((bySecond.data as { proposed: unknown }).proposed).toBeNull();
  });
});
