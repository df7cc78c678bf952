/**
 * Which sites are here: those whose presence says so and who gave a sign of life not long ago. Presence alone is what the
 * broker last heard, and a hello alone may be the last one of a site that died. Works over any broker.
 */
import type { Store } from '../store/store.ts';

export interface AttendanceOptions {
  sites: Pick<Store['sites'], 'touchLastSeen'>;
  /** For how long one sign of life holds (ms). Sites give one every 30 s. Infinity: for ever. */
  signOfLifeMs: number;
  /** Whether signs of life could be heard now. */
  isListening(): boolean;
  onChange(siteId: string): void;
}

export interface Attendance {
  /** What the broker says of a site's connection. */
  present(siteId: string, isPresent: boolean): void;
  /** A new message of the site came. */
  alive(siteId: string): void;
  online(): string[];
  /** For how long it could have been heard that a site is here, and was not (ms); 0 when it is. */
  offlineForMs(siteId: string): number;
  close(): void;
}

interface Attendee {
  isPresent: boolean;
  /** Since its last sign of life, not counting time in which nothing could be heard. */
  silentMs: number;
  isOnline: boolean;
  /** On the clock of the time spent listening. */
  offlineSince: number;
}

/** Signs of life are asked for so often that one may be lost. */
const looksPerSign = 18;
const [leastTickMs, mostTickMs] = [20, 5_000];

export function createAttendance(options: AttendanceOptions): Attendance {
  const { sites, signOfLifeMs, isListening, onChange } = options;
  const attendees = new Map<string, Attendee>();
  const tickMs = Math.min(mostTickMs, Math.max(leastTickMs, signOfLifeMs / looksPerSign));
  let tickedAt = performance.now();
  let heardAt = performance.now();
  let heardMs = 0;

  /** For how long signs of life could be heard: neither a pause of this process nor one of its connection makes a site late. */
  function listenedMs(): number {
    const now = performance.now();
    if (isListening()) heardMs += Math.min(now - heardAt, 2 * mostTickMs);
    heardAt = now;
    return heardMs;
  }

  function update(siteId: string, change: Partial<Pick<Attendee, 'isPresent' | 'silentMs'>>): void {
    const before = attendees.get(siteId) ?? {
      ...{ isPresent: false, silentMs: Number.POSITIVE_INFINITY, isOnline: false, offlineSince: 0 },
    };
    const now = { ...before, ...change };
    const isOnline = now.isPresent && now.silentMs < signOfLifeMs;
    attendees.set(siteId, {
      ...now,
      isOnline,
      ...(before.isOnline && !isOnline && { offlineSince: listenedMs() }),
    });
    if (isOnline === before.isOnline) return;
    if (isOnline) sites.touchLastSeen(siteId);
    onChange(siteId);
  }

  /** A pause of this process, or of its own connection, is no silence of the sites. */
  function tick(): void {
    const now = performance.now();
    const elapsedMs = Math.min(now - tickedAt, 2 * tickMs);
    tickedAt = now;
    listenedMs();
    if (!isListening()) return;
    for (const [siteId, { silentMs }] of attendees) update(siteId, { silentMs: silentMs + elapsedMs });
  }

  const timer = Number.isFinite(signOfLifeMs) ? setInterval(tick, tickMs).unref() : undefined;
  return {
    present: (siteId, isPresent) => update(siteId, { isPresent }),
    alive: (siteId) => update(siteId, { silentMs: 0 }),
    online: () => [...attendees].filter(([, { isOnline }]) => isOnline).map(([siteId]) => siteId),
    offlineForMs(siteId) {
      const attendee = attendees.get(siteId);
      return attendee?.isOnline ? 0 : listenedMs() - (attendee?.offlineSince ?? 0);
    },
    close: () => clearInterval(timer),
  };
}
