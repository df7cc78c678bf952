/** How the screens record consents. */
import type { ConsentGiver } from '../../core/store/records.ts';
import { api } from './client.ts';

export interface GrantForm {
  purpose: string;
  documentVersion: string;
  /** ISO dates; empty where not said. */
  validFrom: string;
  expiresAt: string;
  givenBy: ConsentGiver | '';
  verifiedOn: string;
  reference: string;
}

interface Grant {
  pseudonym: string;
  values: GrantForm;
  /** Id of the withdrawal that the person was shown. */
  afterWithdrawal: number | undefined;
}

export function recordConsent({ pseudonym, values, afterWithdrawal }: Grant) {
  const { purpose, documentVersion, validFrom, ...optional } = values;
  const said = Object.fromEntries(Object.entries(optional).filter(([, text]) => text.trim() !== ''));
  return api.consent.record.mutate({
    ...{ pseudonym, purpose: purpose.trim(), documentVersion: documentVersion.trim(), validFrom },
    ...(said as Partial<{ [K in keyof typeof optional]: Exclude<(typeof optional)[K], ''> }>),
    ...(afterWithdrawal !== undefined && { afterWithdrawal }),
  });
}

interface Withdrawal {
  pseudonym: string;
  purpose?: string;
  date?: string;
  keepImages: boolean;
}

export const withdrawConsent = (withdrawal: Withdrawal) => api.consent.withdraw.mutate(withdrawal);
