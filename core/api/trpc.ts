/** tRPC set up once: every error leaves as an ErrorReport, never as a stack. */
import { setTimeout as sleep } from 'node:timers/promises';
import { initTRPC, TRPCError } from '@trpc/server';
import { ZodError } from 'zod';
import type { Role } from '../config/roles.ts';
import type { Caller } from '../people/people.ts';
import { type Person, requireRole } from '../people/person.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { AgentContext } from './context.ts';

export interface RequestContext {
  agent: AgentContext;
  /** Who asks; `nobody` until they have signed in. */
  person: Person;
  /** Behind a role it is never `nobody`: who acts, as the audit trail and the records name them. */
  caller: Caller;
  /** Sets the session cookie, or takes it away. */
  setSession(token: string | null): void;
}

const trpc = initTRPC
  .context<RequestContext>()
  .meta<ProcedureMeta>()
  .create({
    sse: { ping: { enabled: true, intervalMs: 15_000 } },
    errorFormatter({ shape, error }) {
      const report =
        error.cause instanceof ZodError
          ? new AppError('CONFIG_INVALID', describeZod(error.cause)).toReport()
          : toAppError(error.cause ?? error).toReport();
      return {
        ...shape,
        message: report.message,
        data: { code: shape.data.code, httpStatus: shape.data.httpStatus, report },
      };
    },
  });

function describeZod(error: ZodError): string {
  const issue = error.issues[0];
  const place = issue?.path.join('.') ?? '';
  return place === ''
    ? 'The request is incomplete.'
    : `The setting "${place}" is invalid: ${issue!.message}.`;
}

/** Gives an AppError the tRPC code whose HTTP status comes nearest. */
const mapErrors = trpc.middleware(async ({ next }) => {
  const result = await next();
  if (result.ok || !(result.error.cause instanceof AppError)) return result;
  const { status } = result.error.cause;
  const code =
    status === 404
      ? 'NOT_FOUND'
      : status === 403
        ? 'FORBIDDEN'
        : status === 409
          ? 'CONFLICT'
          : status === 429
            ? 'TOO_MANY_REQUESTS'
            : status < 500
              ? 'BAD_REQUEST'
              : 'INTERNAL_SERVER_ERROR';
  throw new TRPCError({ code, message: result.error.cause.message, cause: result.error.cause });
});

/** What of the caller a procedure asks for: one of these roles. None: any role, so somebody who is known. */
interface ProcedureMeta {
  roles?: readonly Role[];
  /** For the screen of somebody who is not signed in yet. */
  open?: true;
}

/** So often, and after so long, a question is asked again that has met another program's lock on the database. */
const busyTries = 3;
const busyWaitMs = 150;

/** Only questions: of a change nobody knows here how far it came. */
const askAgain = trpc.middleware(async ({ type, next }) => {
  let result = await next();
  for (let tries = 1; type === 'query' && tries < busyTries && isBusy(result); tries++) {
    await sleep(busyWaitMs);
    result = await next();
  }
  return result;
});

const isBusy = (result: { ok: boolean; error?: TRPCError }): boolean =>
  !result.ok && result.error?.cause instanceof AppError && result.error.cause.code === 'DATABASE_BUSY';

export const router = trpc.router;
const procedure = trpc.procedure.use(mapErrors).use(askAgain);

function forRoles(...roles: Role[]) {
  return procedure.meta({ roles }).use(({ ctx, type, next }) => {
    const { person } = ctx;
    requireRole(person, roles);
    // Asking again by itself is no sign of a person; changing something is.
    if (type === 'mutation' && person.kind === 'account') ctx.agent.people.sessions.touch(person.token);
    return next({ ctx: { ...ctx, person, actor: person.actor } });
  });
}

/** Procedures by the role that they take. */
export const viewing = forRoles();
/** Data manager: images, consents, corrections, reports. */
export const managing = forRoles('data-manager');
/** Approver: runs and the policy. */
export const approving = forRoles('approver');
/** Administrator: people and settings. */
export const administering = forRoles('administrator');
/** Stopping and going on again: who looks after the data, or who decides. */
export const pausing = forRoles('data-manager', 'approver');
/** Base models: who looks after this machine, or after its data. */
export const installing = forRoles('data-manager', 'administrator');
/** Taking back or refusing what waits for a second person: whoever may propose something. */
export const proposing = forRoles('data-manager', 'approver', 'administrator');
/** Before anybody is signed in: what the sign-in screen itself needs, and nothing else. */
export const unprotected = procedure.meta({ open: true });
