/** The policy of a site as its screen shows it. */
import { defaultSitePolicy, sitePolicySchema } from '../config/site-policy.ts';
import { toAppError } from '../shared/errors.ts';
import { currentPolicy } from '../site/policy.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { SitePolicyView } from './contract.ts';

/** What the policy screen shows; with a `problem`, what it can show of it. */
export function sitePolicyView(store: ReadOnlyStore): SitePolicyView {
  const row = store.sitePolicies.newest();
  const shown = { defaults: defaultSitePolicy, setBy: row?.actor ?? 'anneal', setAt: row?.createdAt ?? '' };
  try {
    return { ...shown, ...currentPolicy(store), problem: null };
  } catch (thrown) {
    // The strictest reading of what is there, for a person to look at and to save.
    const policy = sitePolicySchema.strip().safeParse(row?.policy).data ?? defaultSitePolicy;
    return { ...shown, version: row?.version ?? 0, policy, problem: toAppError(thrown).toReport() };
  }
}
