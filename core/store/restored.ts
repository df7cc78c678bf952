/** That this store went back in time, and what is known of what it lost. */
import { z } from 'zod';
import type { Store } from './store.ts';

export const restoredSchema = z.object({
  /** Put back by Anneal, or a folder that was copied back; shown by what others remember. */
  how: z.enum(['backup', 'copy']),
  noticedAt: z.string(),
  /** Rows of the audit trail that are missing here, at least; null while nobody has said anything of it. */
  missing: z.int().nullable(),
  /** When the last row was written that is certainly here and was there; null when none is. */
  since: z.string().nullable(),
});
export type Restored = z.infer<typeof restoredSchema>;

const setting = 'position.restored';

/** Null while nothing waits for a person. */
export const restoredNote = (store: Pick<Store, 'settings'>): Restored | null =>
  store.settings.get(setting, restoredSchema);

/** Call it once a data folder was put back from a backup, before anything speaks from it; or when it is noticed. */
export function markRestored(
  store: Store,
  how: Restored['how'],
  { missing, since }: Pick<Restored, 'missing' | 'since'> = { missing: null, since: null },
  renew: () => void = () => void store.position.renew(null),
): void {
  store.transaction(() => {
    renew();
    store.settings.set(setting, { how, noticedAt: store.now(), missing, since } satisfies Restored);
    store.audit.append({ actor: 'anneal', action: 'store-went-back', details: { how, missing, since } });
  });
}

/** What was learnt later of what is missing. */
export function noteMissing(store: Store, found: Pick<Restored, 'missing' | 'since'>): void {
  const note = restoredNote(store);
  if (note === null || (note.missing === found.missing && note.since === found.since)) return;
  store.settings.set(setting, { ...note, ...found } satisfies Restored);
}

/** A person has looked. @returns what it was about; null when there was nothing to confirm */
export function confirmRestored(store: Store, actor: string): Restored | null {
  return store.transaction(() => {
    const note = restoredNote(store);
    if (note === null) return null;
    store.settings.remove(setting);
    const { how, missing, since } = note;
    store.audit.append({ actor, action: 'restore-confirmed', details: { how, missing, since } });
    return note;
  });
}
