/** How people write the name of a purpose. What is recorded is compared exactly; what takes a consent away must not miss it by a slip. */
import type { ConsentEventRecord } from '../store/records.ts';

/** Letter case, spaces, dashes, underscores and what nobody sees. */
const plain = (purpose: string): string =>
  purpose
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/[\p{Zs}\p{Cc}\p{Pd}\p{Pc}\p{Default_Ignorable_Code_Point}]+/gu, '');

/** Whether two names are the same to who reads them. */
export const samePurpose = (one: string, other: string): boolean => plain(one) === plain(other);

/**
 * Which of the purposes that a subject has consented to a withdrawal means: the one that is written so, or else those
 * that are written nearly so; the name as it is when there is none.
 */
export function purposesMeant(events: readonly ConsentEventRecord[], purpose: string): string[] {
  const granted = new Set(
    events.filter(({ kind }) => kind === 'grant').map((event): string => event.purpose),
  );
  if (granted.has(purpose)) return [purpose];
  const alike = [...granted].filter((one) => samePurpose(one, purpose));
  return alike.length > 0 ? alike : [purpose];
}
