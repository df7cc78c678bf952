/** The time zone of a site, in which its dates are days. */
import { AppError } from '../shared/errors.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { machineTimeZone, timeZoneSchema } from './period.ts';

const zoneSetting = 'site.timeZone';

/** The zone in which a date of this site means a day. That of the machine until {@link establishTimeZone} has written it down. */
export const siteTimeZone = (store: Pick<ReadOnlyStore, 'settings'>): string =>
  store.settings.get(zoneSetting, timeZoneSchema) ?? machineTimeZone();

/** Writes the machine's zone down, once: later starts may come from a shell with another. */
export function establishTimeZone(store: Store): string {
  if (store.settings.get(zoneSetting, timeZoneSchema) === null)
    setTimeZone(store, machineTimeZone(), 'anneal');
  return siteTimeZone(store);
}

/**
 * Consents that are recorded keep their instants; only what is recorded from now on is read by the new zone.
 * @throws AppError CONFIG_INVALID
 */
export function setTimeZone(store: Store, zone: string, actor: string): void {
  const parsed = timeZoneSchema.safeParse(zone);
  if (!parsed.success)
    throw new AppError('CONFIG_INVALID', `"${zone.slice(0, 64)}" is no time zone.`, {
      action: 'Give the name of a time zone such as Europe/Berlin.',
    });
  store.transaction(() => {
    const before = store.settings.get(zoneSetting, timeZoneSchema);
    store.settings.set(zoneSetting, parsed.data);
    store.audit.append({ actor, action: 'time-zone-set', details: { timeZone: parsed.data, before } });
  });
}
