/** How a withdrawal reaches the models that were made before it: the coordinator is told, and marks them. */
import type { Store } from '../store/store.ts';
import type { SitePorts } from './site-node.ts';

/**
 * Puts a message into the outbox for each contribution that the coordinator has to know of, also of runs that are over.
 * Who has to be told of what follows from the store alone: nothing is lost by a crash or while the site is offline, and
 * several people who withdraw are told of once.
 * @returns whether there was something new
 */
export function tellWithdrawals(store: Store, ports: Pick<SitePorts, 'enqueue'>): boolean {
  return store.transaction(() => {
    store.withdrawalNotices.noteOwed();
    const untold = store.withdrawalNotices.untold();
    for (const notice of untold) {
      const { runId, round, updateSha256 } = notice;
      store.withdrawalNotices.markTold(notice);
      ports.enqueue({ type: 'withdrawn', body: { runId, round, updateSha256 } });
      store.audit.append({
        actor: 'site',
        action: 'withdrawal-told',
        details: { runId, round, update: updateSha256 },
      });
    }
    return untold.length > 0;
  });
}
