/** The policy that holds at this site: written down at the first start, changed by people here and by nothing else. */
import {
  defaultSitePolicy,
  type PolicyRule,
  type SitePolicy,
  sitePolicySchema,
  weakenedRules,
} from '../config/site-policy.ts';
import { minutesOfDay, msUntilTimeOfDay } from '../consent/period.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';

export interface CurrentPolicy {
  version: number;
  policy: SitePolicy;
  setBy: string;
  setAt: string;
}

/** In the audit trail, for every version. */
const auditAction = 'site-policy-set';

/** No policy was ever set: one that was and is not there any more has been taken away. */
const isNew = (store: ReadOnlyStore) =>
  store.sitePolicies.newest() === null && store.audit.newestOf(auditAction) === null;

/**
 * Writes the defaults of this version of Anneal down, once: what a later version changes about them changes nothing at
 * a site that is there already.
 */
export function establishPolicy(store: Store): void {
  if (isNew(store)) setPolicy(store, defaultSitePolicy, 'anneal');
}

/** @throws AppError POLICY_CHANGED when what is stored is not what a person here set */
export function currentPolicy(store: ReadOnlyStore): CurrentPolicy {
  const row = store.sitePolicies.newest();
  if (row === null) {
    if (isNew(store)) return { version: 0, policy: defaultSitePolicy, setBy: 'anneal', setAt: '' };
    throw changed('The policy of this site was removed outside of Anneal.');
  }
  const { version, sha256, actor, createdAt } = row;
  const recorded = store.audit.newestOf(auditAction)?.details;
  const isRecorded = recorded?.['version'] === version && recorded['sha256'] === sha256;
  if (!isRecorded || hashJson(row.policy) !== sha256)
    throw changed('The policy of this site was changed outside of Anneal.');
  // Rules of a later version are missing in an older policy: they begin with their defaults.
  const parsed = sitePolicySchema.safeParse(row.policy);
  if (!parsed.success)
    throw changed('The policy of this site has rules that this version of Anneal does not know.');
  return { version, policy: parsed.data, setBy: actor, setAt: createdAt };
}

/** The policy that holds, or POLICY_CHANGED when none does. */
export function policyOrFault(store: ReadOnlyStore): SitePolicy | AppError {
  try {
    return currentPolicy(store).policy;
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === 'POLICY_CHANGED') return thrown;
    throw thrown;
  }
}

/** What the coordinator may know; null when nothing can be said for sure. */
export function publishedPolicy(store: ReadOnlyStore): SitePolicy | null {
  try {
    return currentPolicy(store).policy;
  } catch {
    return null;
  }
}

const changed = (message: string) => new AppError('POLICY_CHANGED', message);

/** @returns the rules that protect less than before, which the audit trail names too */
export function setPolicy(store: Store, policy: SitePolicy, actor: string): PolicyRule[] {
  const checked = sitePolicySchema.parse(policy);
  const before = sitePolicySchema.safeParse(store.sitePolicies.newest()?.policy).data ?? null;
  const weakened = before === null ? [] : weakenedRules(before, checked);
  const rules = Object.keys(checked) as PolicyRule[];
  const isChanged = (rule: PolicyRule) => hashJson(before?.[rule] ?? null) !== hashJson(checked[rule]);
  store.transaction(() => {
    const sha256 = hashJson(checked);
    const { version } = store.sitePolicies.append({ policy: checked, sha256, actor });
    const changes =
      before === null
        ? checked
        : Object.fromEntries(rules.filter(isChanged).map((rule) => [rule, checked[rule]]));
    store.audit.append({ actor, action: auditAction, details: { version, sha256, changes, weakened } });
  });
  return weakened;
}

const minutesOf = (text: string) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));

/** How long until the next quiet hours begin, in ms; null when there are none. By the time zone of the site. */
export function msUntilQuiet({ quietHours }: SitePolicy, now: Date, zone: string): number | null {
  const [from] = quietHours.split('-');
  return from ? msUntilTimeOfDay(from, now, zone) : null;
}

/** When the quiet hours in progress end ("19:00"), or null when there are none now. By the time zone of the site. */
export function quietUntil({ quietHours }: SitePolicy, now: Date, zone: string): string | null {
  const [from, to] = quietHours.split('-');
  if (from === undefined || to === undefined) return null;
  const [start, end, at] = [minutesOf(from), minutesOf(to), minutesOfDay(now, zone)];
  const isQuiet = start <= end ? start <= at && at < end : at >= start || at < end;
  return isQuiet ? to : null;
}
