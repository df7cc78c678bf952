/** Which sites the coordinator listens to, and for how long one that misbehaved is kept out. */
import type { Logger } from '../shared/logger.ts';
import type { SiteRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { DismissedBody } from '../transport/messages.ts';
import {
  type BudgetLimits,
  createSenderBudget,
  type DismissalCause,
  type Fault,
  wordsOf,
} from './sender-budget.ts';

export type Dismissal = DismissedBody;

const defaultDismissalMs = 15 * 60_000;
const longestDismissalMs = 4 * defaultDismissalMs;

/** Why and until when a site is kept out; null when it is not. */
export function dismissalOf(
  { dismissedUntil: until, dismissalReason: reason }: SiteRecord,
  now: string,
): Dismissal | null {
  if (until === null || until <= now) return null;
  // A clock that was wrong then or is wrong now must not keep a site out for days.
  if (Date.parse(until) - Date.parse(now) > longestDismissalMs) return null;
  return { until, reason: reason ?? '' };
}

/** Whether a site is enrolled, not removed and not kept out at this time. */
export const isWelcome = (site: SiteRecord | null, now: string): site is SiteRecord =>
  site !== null && site.revokedAt === null && dismissalOf(site, now) === null;

export interface AdmissionOptions {
  store: Store;
  logger: Logger;
  budget?: Partial<BudgetLimits> | undefined;
  /** For how long a site is kept out (ms). */
  dismissalMs?: number | undefined;
  /** The store says by now that the site is kept out. */
  onDismissed(siteId: string, dismissal: Dismissal): void;
}

export interface Admission {
  /** Key of a site that is listened to, else null. */
  keyOf(siteId: string): string | null;
  /** Key of a site that is enrolled, listened to or not. */
  enrolledKeyOf(siteId: string): string | null;
  /** Counts a message that came. False when it is not to be read. */
  hears(siteId: string): Promise<boolean>;
  /** Counts a fault of a site; who spends its budget is dismissed, once. */
  fault(siteId: string, fault: Fault, what: string): Promise<void>;
}

export function createAdmission(options: AdmissionOptions): Admission {
  const { store, logger, dismissalMs = defaultDismissalMs } = options;
  const budget = createSenderBudget(options.budget);

  const keyOf = (siteId: string) => {
    const site = store.sites.get(siteId);
    return isWelcome(site, store.now()) ? site.publicKey : null;
  };

  async function dismiss(siteId: string, cause: DismissalCause): Promise<void> {
    if (keyOf(siteId) === null) return;
    const until = new Date(Date.parse(store.now()) + dismissalMs).toISOString();
    const dismissal = { until, reason: `The coordinator stopped listening to this site: ${wordsOf(cause)}.` };
    store.transaction(() => {
      store.sites.dismiss(siteId, until, dismissal.reason);
      store.audit.append({
        actor: 'coordinator',
        action: 'site-dismissed',
        details: { siteId, ...dismissal },
      });
    });
    await budget.forget(siteId);
    logger.warn({ siteId, ...dismissal }, 'a site was dismissed');
    options.onDismissed(siteId, dismissal);
  }

  return {
    keyOf,
    enrolledKeyOf(siteId) {
      const site = store.sites.get(siteId);
      return site === null || site.revokedAt !== null ? null : site.publicKey;
    },
    async hears(siteId) {
      if (keyOf(siteId) === null) return false;
      if (await budget.heard(siteId)) return true;
      await dismiss(siteId, 'flood');
      return false;
    },
    async fault(siteId, fault, what) {
      if (keyOf(siteId) === null) return;
      // One of many of the same: the dismissal says how it ended.
      if (fault !== 'chunk') logger.info({ siteId, fault, what }, 'a site did something wrong');
      if (!(await budget.count(siteId, fault))) await dismiss(siteId, fault);
    },
  };
}
