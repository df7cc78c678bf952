/** What was said about a table, for the next one with the same columns. */
import { z } from 'zod';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { columnMapSchema, headerSignature } from './tables/columns.ts';
import { dateFormats } from './tables/dates.ts';
import type { RememberedTable } from './tables/understand-options.ts';
import { valueMapSchema } from './tables/values.ts';

const setting = 'import.tables';
/** Kinds of tables that are remembered; the oldest is forgotten. */
const maxTables = 50;
const memorySchema = z.array(
  z.strictObject({
    signature: z.string(),
    map: columnMapSchema,
    values: valueMapSchema,
    dates: z.enum(dateFormats),
  }),
);

const memory = (store: Pick<ReadOnlyStore, 'settings'>) => store.settings.get(setting, memorySchema) ?? [];

/** Null when no table with these columns was imported before, or it needed no words. */
export function rememberedTable(
  store: Pick<ReadOnlyStore, 'settings'>,
  header: readonly string[],
): RememberedTable | null {
  const signature = headerSignature(header);
  return memory(store).find((one) => one.signature === signature) ?? null;
}

export function rememberTable(store: Store, header: readonly string[], said: RememberedTable | null): void {
  const signature = headerSignature(header);
  const others = memory(store).filter((one) => one.signature !== signature);
  const kept = said === null ? others : [{ signature, ...said }, ...others].slice(0, maxTables);
  if (said !== null || kept.length < memory(store).length) store.settings.set(setting, kept);
}
