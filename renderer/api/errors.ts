/** Every failure as the sentence and the advice that the screens show. */
import { TRPCClientError } from '@trpc/client';
import { z } from 'zod/mini';
import type { ErrorCode, ErrorReport } from '../../core/shared/errors.ts';

const reportSchema = z.object({
  data: z.object({ report: z.object({ code: z.string(), message: z.string(), action: z.string() }) }),
});

const unreachable: ErrorReport = {
  code: 'AGENT_UNREACHABLE',
  message: 'Anneal’s background service does not answer.',
  action: 'It is usually back within a few seconds. If not, close Anneal and start it again.',
};

const unexpected: ErrorReport = {
  code: 'INTERNAL',
  message: 'Something went wrong inside Anneal.',
  action: 'Try again; if it happens again, report it and attach the log file from the data folder.',
};

/** What to tell a person about anything that a query, a mutation or a dialog threw. */
export function toReport(thrown: unknown): ErrorReport {
  if (thrown instanceof TypeError) return unreachable;
  if (!(thrown instanceof TRPCClientError)) return unexpected;
  const parsed = reportSchema.safeParse(thrown.shape);
  if (parsed.success) {
    const { code, message, action } = parsed.data.data.report;
    // Codes are shown, never switched over here, so a newer agent's code may pass.
    return { code: code as ErrorCode, message, action };
  }
  return thrown.shape === undefined ? unreachable : unexpected;
}
