/** Acts that take two people: who may be the second one, and that nothing happens before. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { eraseByPeople } from '../../core/api/two-people.ts';
import { defaultSitePolicy } from '../../core/config/site-policy.ts';
import { addAccount, deactivate, resetPassword } from '../../core/people/accounts.ts';
import { osUser, ownerName } from '../../core/people/names.ts';
import type { Person } from '../../core/people/person.ts';
import { type Act, endProposal, withSecondPerson } from '../../core/people/second-person.ts';
import { createSessions } from '../../core/people/sessions.ts';
import { setPolicy } from '../../core/site/policy.ts';
import { addUser } from '../fixtures/people.ts';
import { addImage, openTestStore } from '../fixtures/store.ts';

const owner: Person = { kind: 'owner', actor: ownerName('this computer'), roles: ['approver'] };
const account = (name: string): Exclude<Person, { kind: 'nobody' | 'owner' }> => ({
  ...{ kind: 'account', actor: name, displayName: name, roles: ['approver'], state: 'open', token: '' },
});
const act: Act = { kind: 'approve', input: { contractSha256: 'ab'.repeat(32) } };

async function world() {
  const opened = openTestStore();
  onTestFinished(() => opened[Symbol.dispose]());
  const { store, clock } = opened;
  const context = {
    ...{ store, sessions: createSessions({ lockAfterMinutes: () => 15 }), actor: 'root.admin' },
  };
  for (const name of ['root.admin', 'anna', 'berta'])
    await addUser(store, name, ['administrator', 'approver']);
  const done: string[] = [];
  return {
    ...{ store, context, done },
    pass(days: number) {
      clock.now = new Date(clock.now.getTime() + days * 86_400_000);
    },
    ask: (person: Exclude<Person, { kind: 'nobody' }>, what = act, required = true) =>
      withSecondPerson({ store, person, required }, what, () => done.push(person.actor)),
    actions: () =>
      store.audit
        .page()
        .reverse()
        .map(({ actor, action }) => `${actor} ${action}`)
        .filter((text) => text.includes(' act-')),
  };
}

test('one proposes and another confirms exactly the same; then it is done once', async () => {
  const { ask, done, store, actions } = await world();

  const first = await ask(account('anna'));
  const before = [...done];
  const second = await ask(account('berta'));

  expect([first.type, second.type]).toEqual(['proposed', 'done']);
  expect([before, done]).toEqual([[], ['berta']]);
  expect(store.proposals.pending()).toEqual([]);
  expect(actions()).toEqual(['anna act-proposed', 'berta act-confirmed']);
});

test('where one person is enough, it is done at once', async () => {
  const { ask, done } = await world();

  expect((await ask(owner, act, false)).type).toBe('done');
  expect(done).toEqual([owner.actor]);
});

test.each<[string, Act]>([
  ['another contract', { kind: 'approve', input: { contractSha256: 'cd'.repeat(32) } }],
  ['with limits', { kind: 'approve', input: { ...act.input, limits: { runs: 3, until: null } } }],
  ['another kind', { kind: 'erase', input: act.input }],
])('%s is another act, and waits for itself', async (_what, other) => {
  const { ask, done, store } = await world();
  await ask(account('anna'));

  expect((await ask(account('berta'), other)).type).toBe('proposed');
  expect(done).toEqual([]);
  expect(store.proposals.pending()).toHaveLength(2);
});

describe('the second person is not', () => {
  test.each([
    ['the same account', account('anna'), account('anna'), /yourself/],
    ['the operating system’s user again', owner, owner, /yourself/],
    ['who has the access code, and no name', account('anna'), owner, /name of their own/],
    ['the owner’s other way in', owner, { ...owner, actor: ownerName('access code') }, /name of their own/],
  ])('%s', async (_who, first, second, words) => {
    const { ask, done } = await world();
    await ask(first);

    await expect(ask(second)).rejects.toMatchObject({
      ...{ code: 'SECOND_PERSON_NEEDED', message: expect.stringMatching(words) },
    });
    expect(done).toEqual([]);
  });

  test('the account of the operating system’s user, when that user proposed', async () => {
    const { ask, context } = await world();
    if (!/^[a-z][a-z0-9]*$/.test(osUser())) return;
    await addAccount(context, { name: osUser(), displayName: 'Owner', roles: ['approver'] });
    await ask(owner);

    await expect(ask(account(osUser()))).rejects.toMatchObject({ code: 'SECOND_PERSON_NEEDED' });
  });

  test('an account whose password the first person handed out after proposing', async () => {
    const { ask, context, pass, done } = await world();
    pass(1);
    await ask(account('root.admin'));
    await addAccount(context, { name: 'puppet', displayName: 'Puppet', roles: ['approver'] });
    await resetPassword(context, 'berta');

    await expect(ask(account('puppet'))).rejects.toMatchObject({ code: 'SECOND_PERSON_NEEDED' });
    await expect(ask(account('berta'))).rejects.toMatchObject({ code: 'SECOND_PERSON_NEEDED' });
    expect((await ask(account('anna'))).type).toBe('done');
    expect(done).toEqual(['anna']);
  });

  test('an account that was deactivated', async () => {
    const { ask, context } = await world();
    await ask(account('anna'));
    deactivate(context, 'berta');

    await expect(ask(account('berta'))).rejects.toMatchObject({ code: 'SECOND_PERSON_NEEDED' });
  });
});

describe('a proposal', () => {
  test('ends after two weeks: the next one to ask proposes anew', async () => {
    const { ask, pass, done, actions } = await world();
    await ask(account('anna'));
    pass(14);

    expect((await ask(account('berta'))).type).toBe('proposed');
    expect(done).toEqual([]);
    expect(actions()).toEqual(['anna act-proposed', 'anneal act-expired', 'berta act-proposed']);
  });

  test('ends with the account of who made it', async () => {
    const { ask, context, done, actions } = await world();
    await ask(account('anna'));
    deactivate(context, 'anna');

    expect((await ask(account('berta'))).type).toBe('proposed');
    expect(done).toEqual([]);
    expect(actions()).toContain('anneal act-withdrawn');
  });

  test('is taken back by who made it and refused by another, once', async () => {
    const { ask, store, actions } = await world();
    const ids: number[] = [];
    for (const [end] of [['anna'], ['berta']] as const) {
      const outcome = await ask(account('anna'));
      if (outcome.type !== 'proposed') throw new Error('not proposed');
      ids.push(outcome.proposal.id);
      endProposal({ store, person: account(end) }, outcome.proposal.id);
    }

    expect(() => endProposal({ store, person: account('berta') }, ids[0]!)).toThrow(/settled/);
    expect(actions().filter((text) => !text.includes('proposed'))).toEqual([
      ...['anna act-withdrawn', 'berta act-refused'],
    ]);
  });

  test('waits on when what was confirmed fails', async () => {
    const { ask, store, actions } = await world();
    await ask(account('anna'));
    const failing = withSecondPerson({ store, person: account('berta'), required: true }, act, async () => {
      throw new Error('disk full');
    });

    await expect(failing).rejects.toThrow('disk full');
    expect(store.proposals.pending()).toHaveLength(1);
    expect((await ask(account('berta'))).type).toBe('done');
    expect(actions()).toEqual([
      ...['anna act-proposed', 'berta act-confirmed', 'berta act-not-done', 'berta act-confirmed'],
    ]);
  });

  test('is done once when two people confirm it at the same time', async () => {
    const { ask, done } = await world();
    await ask(account('anna'));

    const outcomes = await Promise.all([ask(account('berta')), ask(account('root.admin'))]);

    expect(outcomes.map(({ type }) => type).sort()).toEqual(['done', 'proposed']);
    expect(done).toHaveLength(1);
  });
});

test('who confirms an erasure erases the images that were there when it was proposed, and no others', async () => {
  const { store } = await world();
  setPolicy(store, { ...defaultSitePolicy, twoPersonErasure: true }, 'root.admin');
  addImage(store, 'P1', 'one');
  addImage(store, 'P2', 'two');
  const erased: string[] = [];
  const ask = (name: string) =>
    eraseByPeople(store, account(name), 'P1', () => {
      erased.push(name);
    });

  await ask('anna');
  const subjectId = store.subjects.byPseudonym('P2')!.id;
  const [other] = store.images.list({ subjectId });
  store.images.correct(other!.id, { ...other!, subjectId: store.subjects.byPseudonym('P1')!.id });
  const changed = await ask('berta');
  const before = [...erased];
  const again = await ask('anna');

  expect([changed.type, before, again.type, erased]).toEqual(['proposed', [], 'done', ['anna']]);
});
