/** What a site says of a store that went back in time, and what of it people have to do. */

import { formatMinute } from '../shared/clock-words.ts';
import { AppError } from '../shared/errors.ts';
import { plural } from '../shared/text.ts';
import type { Restored } from '../store/restored.ts';

/** For the screens of this site: what is missing is said only as far as it is certain. */
export function restoredProblem({ how, missing, since }: Restored): AppError {
  const what =
    how === 'backup'
      ? 'The data of this site was restored from a backup.'
      : 'The data of this site is older than what this site has said before: its data folder was put back to an earlier state.';
  const lost =
    missing === null
      ? 'What was recorded since then is missing here.'
      : missing === 0
        ? 'Nothing that the coordinator knows of is missing in the audit trail.'
        : `At least ${plural(missing, 'entry', 'entries')} of the audit trail ${missing === 1 ? 'is' : 'are'} missing.`;
  const from = since === null ? '' : ` Certain is only what was recorded until ${formatMinute(since)}.`;
  return new AppError('SITE_RESTORED', `${what} ${lost}${from}`);
}

/** The coordinator hears that, and no more. */
export const restoredForOthers =
  'The data of this site was restored from an earlier state; a person there has to confirm it first.';
