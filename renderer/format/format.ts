/** How figures and moments are written, everywhere the same. `null` is an en dash: not known (yet). */

const none = '–';
const integer = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en-GB', {
  notation: 'compact',
  compactDisplay: 'long',
  maximumSignificantDigits: 3,
});

/** `12,345` */
export function formatCount(count: number | null): string {
  return count === null ? none : integer.format(count);
}

/** `1.23 million`: for figures where the order of magnitude matters. */
export function formatCompact(count: number | null): string {
  return count === null ? none : compact.format(count);
}

/** Decimal units, as operating systems and networks count: `1.5 MB`. */
export function formatBytes(sizeBytes: number | null): string {
  if (sizeBytes === null) return none;
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let value = sizeBytes;
  let unit = 0;
  // 999.5 would print as 1000 of the smaller unit.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return value === 1 ? '1 byte' : `${integer.format(value)} bytes`;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${Number(value.toFixed(digits))} ${units[unit]}`;
}

/** A share 0…1 as `87.5 %`. A share just below 1 never reads as 100 %. */
export function formatPercent(share: number | null, digits = 1): string {
  if (share === null) return none;
  const scale = 10 ** digits;
  const percent = share * 100;
  const rounded = Math.round(percent * scale) / scale;
  const shown = rounded === 100 && share < 1 ? Math.floor(percent * scale) / scale : rounded;
  return `${shown.toFixed(shown === 100 || shown === 0 ? 0 : digits)} %`;
}

/** Loss with three decimals: `0.482`. */
export function formatLoss(loss: number | null): string {
  return loss === null || !Number.isFinite(loss) ? none : loss.toFixed(3);
}

/** How the reader's system writes dates. */
const ownLocale = (): string => globalThis.navigator?.language || 'en-GB';

const dayParts = { day: 'numeric', month: 'short', year: 'numeric' } as const;

/** `22 Nov 2026`, `Nov 22, 2026`, `22. Nov. 2026`: as the reader writes dates, in the reader's time zone. */
export function formatDate(iso: string | null, timeZone?: string, locale = ownLocale()): string {
  if (iso === null) return none;
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return none;
  return new Intl.DateTimeFormat(locale, { ...dayParts, ...(timeZone && { timeZone }) }).format(moment);
}

/** A day that was meant as a day, wherever the reader is. @param day ISO date such as `2026-12-31` */
export function formatDay(day: string | null, locale = ownLocale()): string {
  return day === null || !/^\d{4}-\d{2}-\d{2}$/.test(day) ? none : formatDate(`${day}T00:00Z`, 'UTC', locale);
}

/** `22 Nov 2026, 14:05` in the reader's time zone. */
export function formatDateTime(iso: string | null, timeZone?: string, locale = ownLocale()): string {
  if (iso === null) return none;
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return none;
  const time = new Intl.DateTimeFormat(locale, {
    hour: '2-digit',
    minute: '2-digit',
    ...(timeZone && { timeZone }),
  });
  return `${formatDate(iso, timeZone, locale)}, ${time.format(moment)}`;
}

/** `just now`, `5 minutes ago`, `in 3 hours`, then the date. */
export function formatRelative(iso: string | null, nowMs: number = Date.now()): string {
  if (iso === null) return none;
  const differenceMs = new Date(iso).getTime() - nowMs;
  if (Number.isNaN(differenceMs)) return none;
  const minutes = Math.round(Math.abs(differenceMs) / 60_000);
  if (minutes < 1) return 'just now';
  const [amount, unit] =
    minutes < 60
      ? [minutes, 'minute']
      : minutes < 48 * 60
        ? [Math.round(minutes / 60), 'hour']
        : [Math.round(minutes / 1440), 'day'];
  if (unit === 'day' && amount > 14) return formatDate(iso);
  const words = `${amount} ${unit}${amount === 1 ? '' : 's'}`;
  return differenceMs < 0 ? `${words} ago` : `in ${words}`;
}

/** `45 s`, `3 min 20 s`, `1 h 5 min`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
  if (minutes >= 48 * 60) return formatPlural(Math.round(minutes / (24 * 60)), 'day');
  return minutes % 60 === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `1 image`, `3 images`, `2 classes`: as core/shared/text.ts counts, with digits grouped. */
export function formatPlural(
  count: number,
  one: string,
  many = /(s|x|ch|sh)$/.test(one) ? `${one}es` : `${one}s`,
): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Rounds are counted from 0 in the protocol and from 1 on the screens. */
export function formatRound(round: number): string {
  return formatCount(round + 1);
}

/** `1–4, 7`: rounds (0-based) as ranges, 1-based. */
export function formatRounds(rounds: readonly number[]): string {
  const sorted = [...new Set(rounds)].sort((a, b) => a - b);
  const ranges: [number, number][] = [];
  for (const round of sorted) {
    const last = ranges.at(-1);
    if (last && round === last[1] + 1) last[1] = round;
    else ranges.push([round, round]);
  }
  return (
    ranges.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}–${to + 1}`)).join(', ') || none
  );
}

/** The first ten digits of a hash: enough to tell two apart by eye. */
export function formatHash(sha256: string): string {
  return sha256.slice(0, 10);
}

/** How much smaller `part` is than `whole`: 0.96 for a twenty-fifth; null when there is nothing to compare. */
export function savedShare(part: number, whole: number): number | null {
  return whole > 0 ? 1 - part / whole : null;
}

/** Today in the reader's time zone as `2026-11-22`, the form that date fields use. */
export function todayIsoDate(now: Date = new Date()): string {
  const two = (part: number) => String(part).padStart(2, '0');
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}
