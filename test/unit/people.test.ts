/** Accounts, passwords and sessions: who gets in, and who does not any more. */
import crypto from 'node:crypto';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Role, rolesSchema } from '../../core/config/roles.ts';
import { addAccount, deactivate, reactivate, resetPassword, setRoles } from '../../core/people/accounts.ts';
import { accountName, displayName, osUser, ownerName } from '../../core/people/names.ts';
import { hashPassword, isPassword, nobodysHash } from '../../core/people/password-hash.ts';
import { checkPassword, createOneTimePassword } from '../../core/people/password-rules.ts';
import { createPeople, type People } from '../../core/people/people.ts';
import { addUser, goodPassword as good } from '../fixtures/people.ts';
import { openTestStore } from '../fixtures/store.ts';

const screen = { channel: 'loopback', isScreen: true } as const;

function world() {
  const opened = openTestStore('2027-01-04T08:00:00.000Z');
  onTestFinished(() => opened[Symbol.dispose]());
  const { store, clock } = opened;
  const people = createPeople(store, () => clock.now.getTime());
  const context = { store, sessions: people.sessions, actor: 'root (this computer)' };
  return {
    ...{ store, people, context },
    pass(ms: number) {
      clock.now = new Date(clock.now.getTime() + ms);
    },
    /** Who has chosen a password long ago, signed in. */
    async add(name: string, roles: Role[] = ['administrator']) {
      await addUser(store, name, roles);
      return people.sessions.open(name, 'loopback');
    },
    /** Who comes with a one-time password and chooses another one. */
    async begin(name: string, roles: Role[] = ['administrator']) {
      const { oneTimePassword } = await addAccount(context, { name, displayName: name, roles });
      const token = await people.signIn(name, oneTimePassword, 'loopback');
      await people.changePassword(name, { current: oneTimePassword, next: good }, token);
      return token;
    },
  };
}

const stateOf = (people: People, token: string) => {
  const person = people.whoIs({ ...screen, token });
  return person.kind === 'account' ? person.state : person.kind;
};

describe('a password', () => {
  test('is known again, in any form of its letters, and no other is', async () => {
    const stored = await hashPassword('Grüße aus Ålesund 7');

    expect(stored).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(await isPassword('Grüße aus Ålesund 7'.normalize('NFD'), stored)).toBe(true);
    expect(await isPassword('grüße aus Ålesund 7', stored)).toBe(false);
    expect(await isPassword('Grüße aus Ålesund 7', nobodysHash)).toBe(false);
    expect(await isPassword('x', 'plain text')).toBe(false);
  });

  // node:crypto has argon2 from 24.7 on.
  test.skipIf(crypto.argon2Sync === undefined)('is hashed as node:crypto hashes it', async () => {
    const [, , , , salt, hash] = (await hashPassword(good)).split('$');
    const theirs = crypto.argon2Sync('argon2id', {
      message: good,
      nonce: Buffer.from(salt!, 'base64'),
      ...{ parallelism: 1, tagLength: 32, memory: 19_456, passes: 2 },
    });

    expect(theirs.toString('base64').replace(/=+$/, '')).toBe(hash);
  });

  test.each([
    ['too short', 'k9!vQ2#zPw1', /11 characters/],
    ['a common one', 'passwordpassword', /easy to guess/],
    ['a row of the keyboard', 'qwertyuiopasdf', /easy to guess/],
    ['the same letter', 'aaaaaaaaaaaaaaaa', /easy to guess/],
    ['a sequence', '123456789012345', /easy to guess/],
    ['the person’s own name', 'anna.meier.anna.meier', /easy to guess/],
    ['too long', 'x'.repeat(257), /more than 256/],
  ])('that is %s is refused', async (_why, password, words) => {
    const refused = checkPassword(password, ['anna.meier', 'Anna Meier']);

    await expect(refused).rejects.toMatchObject({
      code: 'PASSWORD_REFUSED',
      message: expect.stringMatching(words),
    });
  });

  test.each([good, 'отличный пароль для входа', '這是一個很長的密碼短語測試', createOneTimePassword()])(
    '%s is taken: no kinds of characters are asked for',
    async (password) => {
      await checkPassword(password, ['anna.meier', 'Anna Meier']);
    },
  );
});

describe('a name', () => {
  test.each(['anna', 'anna.meier', 'a_b-c.d2', 'x1'])('%s is an account’s', (name) => {
    expect(accountName.parse(name)).toBe(name);
  });

  test.each([
    '',
    'a',
    'Anna',
    'änna',
    'anna meier',
    '.anna',
    'anna.',
    'a..b',
    '1anna',
    'аnna',
    'system',
    'anneal',
    'anna\u200b',
    'a'.repeat(41),
    'root (this computer)',
  ])('%j is none', (name) => {
    expect(accountName.safeParse(name).success).toBe(false);
  });

  test('nobody without an account has the name of one', () => {
    expect(accountName.safeParse(ownerName('this computer')).success).toBe(false);
    expect(ownerName('this computer')).toContain(osUser());
  });

  test('of a person has one form and nothing invisible', () => {
    expect(displayName.parse(' Zoe\u0308 Müller ')).toBe('Zoë Müller');
    for (const text of ['', '  ', 'a\u200bb', 'a\u202eb', 'a\nb', 'x'.repeat(81)])
      expect(displayName.safeParse(text).success, JSON.stringify(text)).toBe(false);
  });

  test('of roles: in one order, once each, at least one', () => {
    expect(rolesSchema.parse(['approver', 'viewer', 'approver'])).toEqual(['viewer', 'approver']);
    expect(rolesSchema.safeParse([]).success).toBe(false);
    expect(rolesSchema.safeParse(['root']).success).toBe(false);
  });
});

describe('an account', () => {
  test('begins with a one-time password that is good for choosing another one only', async () => {
    const { people, context } = world();
    const { oneTimePassword } = await addAccount(context, {
      ...{ name: 'anna', displayName: 'Anna', roles: ['administrator'] },
    });

    const token = await people.signIn('anna', oneTimePassword, 'loopback');
    const before = stateOf(people, token);
    await people.changePassword('anna', { current: oneTimePassword, next: good }, token);

    expect([before, stateOf(people, token)]).toEqual(['must-change', 'open']);
    await expect(people.signIn('anna', oneTimePassword, 'loopback')).rejects.toMatchObject({
      code: 'SIGN_IN_FAILED',
    });
  });

  test('with a one-time password of eight days ago does not get in', async () => {
    const { people, context, pass } = world();
    const { oneTimePassword } = await addAccount(context, {
      ...{ name: 'anna', displayName: 'Anna', roles: ['administrator'] },
    });
    pass(8 * 86_400_000);

    await expect(people.signIn('anna', oneTimePassword, 'loopback')).rejects.toMatchObject({
      code: 'SIGN_IN_FAILED',
    });
  });

  test('is not removed from the table, not renamed, and its name not given again', async () => {
    const { store, context, add } = world();
    await add('anna');
    await add('berta');
    deactivate(context, 'berta');

    await expect(
      addAccount(context, { name: 'berta', displayName: 'Another', roles: ['viewer'] }),
    ).rejects.toMatchObject({ code: 'USER_CONFLICT' });
    expect(store.users.list().map(({ name }) => name)).toEqual(['anna', 'berta']);
  });

  test('the first one is an administrator, and the last administrator stays', async () => {
    const { context, add } = world();
    await expect(
      addAccount(context, { name: 'anna', displayName: 'Anna', roles: ['viewer'] }),
    ).rejects.toMatchObject({ code: 'USER_CONFLICT' });
    await add('anna');
    await add('berta', ['viewer']);

    expect(() => deactivate(context, 'anna')).toThrow(/last administrator/);
    expect(() => setRoles(context, 'anna', ['viewer'])).toThrow(/last administrator/);
    setRoles(context, 'berta', ['administrator']);
    expect(deactivate(context, 'anna').isActive).toBe(false);
    expect(() => deactivate(context, 'berta')).toThrow(/last administrator/);
  });

  test.each<[string, (context: ReturnType<typeof world>['context']) => unknown]>([
    ['a new one-time password', (context) => resetPassword(context, 'berta')],
    ['deactivation', (context) => deactivate(context, 'berta')],
    ['reactivation', (context) => reactivate(context, 'berta')],
  ])('loses its sessions by %s', async (_what, act) => {
    const { people, context, add } = world();
    await add('anna');
    const token = await add('berta', ['viewer']);

    await act(context);

    expect(stateOf(people, token)).toBe('nobody');
    await expect(people.signIn('berta', good, 'loopback')).rejects.toMatchObject({ code: 'SIGN_IN_FAILED' });
  });

  test('that changes its password ends its other sessions', async () => {
    const { people, add } = world();
    const first = await add('anna');
    const second = await people.signIn('anna', good, 'loopback');

    await people.changePassword('anna', { current: good, next: 'another harbour of velvet 3' }, second);

    expect([stateOf(people, first), stateOf(people, second)]).toEqual(['nobody', 'open']);
  });

  test('writes down who did what, and never a password', async () => {
    const { store, people, context, begin } = world();
    const token = await begin('anna');
    await expect(people.signIn('anna', 'wrong wrong wrong', 'loopback')).rejects.toThrow();
    setRoles(context, 'anna', ['administrator', 'viewer']);
    people.sessions.close(token);

    const rows = store.audit.page().reverse();
    expect(rows.map(({ actor, action }) => [actor, action])).toEqual([
      ['root (this computer)', 'user-added'],
      ['anna', 'signed-in'],
      ['anna', 'user-password-changed'],
      ['root (this computer)', 'user-roles-changed'],
    ]);
    expect(JSON.stringify(rows)).not.toMatch(/velvet|wrong|argon2/);
  });
});

describe('a session', () => {
  test('locks when nobody did anything, and goes on with the same person’s password', async () => {
    const { people, add, pass } = world();
    const token = await add('anna');
    pass(14 * 60_000);
    people.sessions.touch(token);
    pass(14 * 60_000);
    const before = stateOf(people, token);
    pass(60_000);
    const after = stateOf(people, token);
    people.sessions.touch(token);
    const touched = stateOf(people, token);

    await expect(people.unlock('anna', 'not the password', token)).rejects.toMatchObject({
      code: 'SIGN_IN_FAILED',
    });
    await people.unlock('anna', good, token);

    expect([before, after, touched, stateOf(people, token)]).toEqual(['open', 'locked', 'locked', 'open']);
  });

  test('ends after twelve hours whatever happens, and a clock that is set back keeps none open', async () => {
    const { people, add, pass } = world();
    const token = await add('anna');
    for (let minutes = 0; minutes < 719; minutes++) {
      pass(60_000);
      people.sessions.touch(token);
    }
    const before = stateOf(people, token);
    pass(60_000);
    const after = stateOf(people, token);
    const later = await people.signIn('anna', good, 'loopback');
    pass(-1000);

    expect([before, after, stateOf(people, later)]).toEqual(['open', 'nobody', 'nobody']);
  });

  test('of one way in is none of the other', async () => {
    const { people, add } = world();
    const token = await add('anna');

    expect(people.whoIs({ channel: 'socket', isScreen: true, token }).kind).toBe('nobody');
  });

  test('the twenty-first of a person ends the first', async () => {
    const { people, add } = world();
    const first = await add('anna');
    const others = Array.from({ length: 20 }, () => people.sessions.open('anna', 'loopback'));

    expect([stateOf(people, first), ...others.map((token) => stateOf(people, token))]).toEqual([
      'nobody',
      ...others.map(() => 'open'),
    ]);
  });
});

describe('wrong passwords', () => {
  test('wait longer each time, also for names that do not exist, and one right password ends that', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout'], shouldAdvanceTime: true });
    try {
      const { people, add } = world();
      await add('anna');
      for (const name of ['anna', 'nobody.here']) {
        for (let tries = 0; tries < 5; tries++)
          await expect(people.signIn(name, 'wrong', 'loopback')).rejects.toMatchObject({
            code: 'SIGN_IN_FAILED',
          });
        await expect(people.signIn(name, good, 'loopback')).rejects.toMatchObject({
          code: 'TOO_MANY_TRIES',
          message: expect.stringMatching(/in 1[45] seconds/),
        });
      }
      vi.advanceTimersByTime(15_500);
      await expect(people.signIn('anna', 'wrong', 'loopback')).rejects.toMatchObject({
        code: 'SIGN_IN_FAILED',
      });
      await expect(people.signIn('anna', good, 'loopback')).rejects.toMatchObject({
        message: expect.stringMatching(/in (29|30) seconds/),
      });
      vi.advanceTimersByTime(30_500);
      await people.signIn('anna', good, 'loopback');
      await expect(people.signIn('anna', 'wrong', 'loopback')).rejects.toMatchObject({
        code: 'SIGN_IN_FAILED',
      });
      await people.signIn('anna', good, 'loopback');
    } finally {
      vi.useRealTimers();
    }
  });

  test('in parallel are counted one by one', async () => {
    const { people, add } = world();
    await add('anna');

    const answers = await Promise.allSettled(
      Array.from({ length: 12 }, (_, index) => people.signIn('anna', `guess ${index}`, 'loopback')),
    );

    const codes = answers.map((answer) => (answer as { reason?: { code: string } }).reason?.code);
    expect(codes.filter((code) => code === 'SIGN_IN_FAILED')).toHaveLength(5);
    expect(codes.filter((code) => code === 'TOO_MANY_TRIES')).toHaveLength(7);
  });
});

describe('who may act without an account', () => {
  const cli = { channel: 'socket', isScreen: false, token: null } as const;
  const desktop = { channel: 'socket', isScreen: true, token: null } as const;
  const browser = { channel: 'loopback', isScreen: true, token: null } as const;
  const kinds = (people: People) => [cli, desktop, browser].map((caller) => people.whoIs(caller).kind);

  test('everybody who is let in, until there are accounts; then nobody over loopback', async () => {
    const { people, begin } = world();
    const before = kinds(people);
    await begin('anna');

    expect(before).toEqual(['owner', 'owner', 'owner']);
    expect(kinds(people)).toEqual(['owner', 'owner', 'nobody']);
  });

  test('only the command line, once everybody signs in', async () => {
    const { people, add } = world();
    const rule = { everybodySignsIn: true, lockAfterMinutes: 5 };
    expect(() => people.changeSettings(rule, 'x')).toThrow(/administrator/);
    await add('anna');
    people.changeSettings(rule, 'anna');

    expect(kinds(people)).toEqual(['owner', 'nobody', 'nobody']);
  });

  test('a session that ended does not turn into the owner of the machine', async () => {
    const { people, context, add } = world();
    await add('anna');
    await add('berta', ['viewer']);
    const token = await people.signIn('berta', good, 'socket');
    deactivate(context, 'berta');

    expect(people.whoIs({ ...cli, token }).kind).toBe('nobody');
  });
});
