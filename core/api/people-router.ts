/** Signing in and out, accounts, and proposals that wait for a second person. */
import { z } from 'zod';
import { rolesSchema } from '../config/roles.ts';
import {
  accountOf,
  addAccount,
  deactivate,
  reactivate,
  resetPassword,
  setRoles,
} from '../people/accounts.ts';
import { accountName, displayName } from '../people/names.ts';
import { typedPassword } from '../people/password-rules.ts';
import { peopleSettings } from '../people/people.ts';
import type { Person } from '../people/person.ts';
import { endProposal } from '../people/second-person.ts';
import { AppError } from '../shared/errors.ts';
import type { AgentContext } from './context.ts';
import type { Me } from './contract.ts';
import { administering, proposing, type RequestContext, router, unprotected, viewing } from './trpc.ts';
import { pendingProposals } from './two-people.ts';

const named = z.strictObject({ name: accountName });

/** Who asks, with what the sign-in screen needs; says nothing of other people. */
function me({ agent: { people }, person, caller }: RequestContext): Me {
  const { lockAfterMinutes } = people.settings();
  const shared = { owner: people.ownerOf(caller), hasAccounts: people.hasAccounts(), lockAfterMinutes };
  if (person.kind === 'nobody')
    return { ...shared, state: 'signed-out', actor: null, displayName: null, roles: [], hasPassword: false };
  if (person.kind === 'owner')
    return {
      ...shared,
      ...{
        state: 'open',
        actor: person.actor,
        displayName: null,
        roles: [...person.roles],
        hasPassword: false,
      },
    };
  const { state, actor, displayName: called, roles } = person;
  return { ...shared, state, actor, displayName: called, roles: [...roles], hasPassword: true };
}

/** @throws AppError SIGN_IN_NEEDED for anybody without a session */
function accountIn(person: Person): Extract<Person, { kind: 'account' }> {
  if (person.kind === 'account') return person;
  throw new AppError('SIGN_IN_NEEDED', 'Nobody is signed in with a user account.');
}

const meAfter = (ctx: RequestContext, token: string | null): Me => {
  const caller = { ...ctx.caller, token };
  return me({ ...ctx, caller, person: ctx.agent.people.whoIs(caller) });
};

/** Without a role: signing in, and what a locked session may still do. */
const sessionProcedures = {
  me: unprotected.query(({ ctx }) => me(ctx)),
  signIn: unprotected
    // Not the strict name: what is wrong with it must not be told apart from a wrong password.
    .input(z.strictObject({ name: z.string().trim().toLowerCase().min(1).max(200), password: typedPassword }))
    .mutation(async ({ ctx, input }) => {
      const token = await ctx.agent.people.signIn(input.name, input.password, ctx.caller.channel);
      if (ctx.caller.token !== null) ctx.agent.people.sessions.close(ctx.caller.token);
      ctx.setSession(token);
      return meAfter(ctx, token);
    }),
  signOut: unprotected.mutation(({ ctx }) => {
    const { person, agent } = ctx;
    if (ctx.caller.token !== null) agent.people.sessions.close(ctx.caller.token);
    if (person.kind === 'account')
      agent.store.audit.append({ actor: person.actor, action: 'signed-out', details: {} });
    ctx.setSession(null);
    return meAfter(ctx, null);
  }),
  lock: unprotected.mutation(({ ctx }) => {
    const { token } = accountIn(ctx.person);
    ctx.agent.people.sessions.lock(token);
    return meAfter(ctx, token);
  }),
  unlock: unprotected.input(z.strictObject({ password: typedPassword })).mutation(async ({ ctx, input }) => {
    const { actor, token } = accountIn(ctx.person);
    await ctx.agent.people.unlock(actor, input.password, token);
    return meAfter(ctx, token);
  }),
  /** Also with a one-time password, after which nothing else is allowed. */
  changePassword: unprotected
    .input(z.strictObject({ current: typedPassword, next: typedPassword }))
    .mutation(async ({ ctx, input }) => {
      const { actor, state, token } = accountIn(ctx.person);
      if (state === 'locked') throw new AppError('SESSION_LOCKED', 'The session is locked.');
      await ctx.agent.people.changePassword(actor, input, token);
      return meAfter(ctx, token);
    }),
};

const context = ({ agent, actor }: { agent: AgentContext; actor: string }) => ({
  ...{ store: agent.store, sessions: agent.people.sessions, actor },
});

export const peopleRouter = router({
  ...sessionProcedures,
  /** A person is there: keeps the session from locking. The screens send it when somebody types or points. */
  active: viewing.mutation(() => true),
  list: viewing.query(({ ctx }) => ({
    users: ctx.agent.store.users.list().map(accountOf),
    settings: ctx.agent.people.settings(),
  })),
  add: administering
    .input(z.strictObject({ name: accountName, displayName, roles: rolesSchema }))
    .mutation(({ ctx, input }) => addAccount(context(ctx), input)),
  setRoles: administering
    .input(named.extend({ roles: rolesSchema }))
    .mutation(({ ctx, input }) => setRoles(context(ctx), input.name, input.roles)),
  resetPassword: administering
    .input(named)
    .mutation(({ ctx, input }) => resetPassword(context(ctx), input.name)),
  deactivate: administering.input(named).mutation(({ ctx, input }) => deactivate(context(ctx), input.name)),
  reactivate: administering.input(named).mutation(({ ctx, input }) => reactivate(context(ctx), input.name)),
  changeSettings: administering.input(peopleSettings).mutation(({ ctx, input }) => {
    ctx.agent.people.changeSettings(input, ctx.actor);
    return ctx.agent.people.settings();
  }),
  proposals: viewing.query(({ ctx }) => pendingProposals(ctx.agent, ctx.person)),
  endProposal: proposing.input(z.strictObject({ id: z.int().positive() })).mutation(({ ctx, input }) => {
    endProposal({ store: ctx.agent.store, person: ctx.person }, input.id);
    ctx.agent.emit({ type: 'changed', what: 'run' });
    return pendingProposals(ctx.agent, ctx.person);
  }),
});
