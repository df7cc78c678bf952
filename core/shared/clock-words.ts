/** Times, and how far clocks are apart, for people. */

/** `2026-11-30 20:48 UTC`. @param time ISO 8601 UTC */
export const formatMinute = (time: string): string => `${time.slice(0, 16).replace('T', ' ')} UTC`;

const units = [
  ['day', 24 * 3_600_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
] as const;

/** "2 days", "1 hour", "3 minutes": the largest unit that fits, rounded; of the length, whatever the sign. */
export function aboutHowLong(ms: number): string {
  const length = Math.abs(ms);
  const [unit, size] = units.find(([, least]) => length >= 0.95 * least) ?? units[units.length - 1]!;
  const count = Math.round(length / size);
  return new Intl.NumberFormat('en', { style: 'unit', unit, unitDisplay: 'long' }).format(count);
}
