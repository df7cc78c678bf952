/** tRPC set up once: every error leaves as an ErrorReport, never as a stack. */
import { initTRPC, TRPCError } from '@trpc/server';
import { ZodError } from 'zod';
import { AppError, toAppError } from '../shared/errors.ts';
import type { AgentContext } from './context.ts';

export interface RequestContext {
  agent: AgentContext;
  /** Who asks, as the audit trail and the records name them. */
  actor: string;
}

const trpc = initTRPC.context<RequestContext>().create({
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
          : status < 500
            ? 'BAD_REQUEST'
            : 'INTERNAL_SERVER_ERROR';
  throw new TRPCError({ code, message: result.error.cause.message, cause: result.error.cause });
});

export const router = trpc.router;
export const procedure = trpc.procedure.use(mapErrors);
/** Procedures by the role that they take. */
export const viewing = procedure;
/** Data manager: images, consents, corrections, reports. */
export const managing = procedure;
/** Approver: runs and the policy. */
export const approving = procedure;
/** Administrator: people and settings. */
export const administering = procedure;
