/** What an installation knows of backups of itself: the audit trail names each that was made, and from which one it came. */
import { z } from 'zod';
import { markRestored } from '../store/restored.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import type { About } from './entries.ts';
import type { WrittenBackup } from './write-backup.ts';

export const actions = { made: 'backup-made', restored: 'store-restored' } as const;

const madeSchema = z.object({ backup: z.uuid(), madeAt: z.iso.datetime(), sizeBytes: z.int() });

export interface KnownBackup {
  id: string;
  /** The moment that it shows the data folder at. */
  madeAt: string;
  sizeBytes: number;
  madeBy: string;
}

/** Newest first. Nobody tells Anneal when one is deleted. */
export function knownBackups(store: Pick<ReadOnlyStore, 'audit'>): KnownBackup[] {
  return store.audit.allOf(actions.made).flatMap(({ actor, details }) => {
    const made = madeSchema.safeParse(details).data;
    if (made === undefined) return [];
    const { backup: id, madeAt, sizeBytes } = made;
    return [{ id, madeAt, sizeBytes, madeBy: actor }];
  });
}

export function recordBackup(store: Store, backup: WrittenBackup, actor: string): void {
  const { id, madeAt, sizeBytes, files, missing } = backup;
  store.audit.append({
    actor,
    action: actions.made,
    details: { backup: id, madeAt, sizeBytes, files, missing },
  });
}

/** Mark of a store that came from a backup: what was recorded between `madeAt` and `at` is not in it. */
export const restoredSetting = 'store.restored';
const restoredSchema = z.strictObject({ at: z.iso.datetime(), backup: z.uuid(), madeAt: z.iso.datetime() });
export type RestoredFrom = z.infer<typeof restoredSchema>;

export const restoredFrom = (store: Pick<ReadOnlyStore, 'settings'>): RestoredFrom | null =>
  store.settings.get(restoredSetting, restoredSchema);

/** Before anything speaks from the store: it stands elsewhere than it did, and a person has to confirm what it lost. */
export function recordRestore(
  store: Store,
  { id, madeAt }: About,
  { actor, erased }: { actor: string; erased: number },
): void {
  store.transaction(() => {
    markRestored(store, 'backup', { missing: null, since: madeAt });
    store.settings.set(restoredSetting, { at: store.now(), backup: id, madeAt });
    store.audit.append({ actor, action: actions.restored, details: { backup: id, madeAt, erased } });
  });
}
