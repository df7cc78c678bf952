/** tRPC set up once: every error leaves as an ErrorReport, never as a stack. */
import { initTRPC, TRPCError } from '@trpc/server';
import { ZodError } from 'zod';
import { AppError, toAppError } from '../shared/errors.ts';
import type { AgentContext } from './context.ts';

const trpc = initTRPC.context<{ agent: AgentContext }>().create({
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
