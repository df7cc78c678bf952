/**
 * Two computers with the keys of one site: a process that speaks again after another one did. A site that is started anew is a
 * new process, and the old one is never heard again.
 */

export interface TwinWatch {
  /** A process of the site has said hello. */
  see(siteId: string, instance: string): 'none' | 'other' | 'wait';
  stateOf(siteId: string, instance: string): 'none' | 'other' | 'wait';
  isKeptOut(siteId: string, instance: string): boolean;
  has(siteId: string): boolean;
  /** Whether it is different for some site since this was asked last. */
  changed(): boolean;
}

interface Seen {
  /** By process, in the order in which they were first heard. */
  heardAt: Map<string, number>;
  current: string;
  /** When two were last heard; null when they never were. */
  twinAt: number | null;
  /** The process that counts meanwhile. */
  kept: string | null;
}

/** After that long without a word of the one that was kept, the other is the site; the second one tries every few minutes. */
const goneAfterMs = 2 * 60_000;
/** So long after two were heard it is said that there are two. */
const saidForMs = 15 * 60_000;
const keptProcesses = 8;

/** @param now monotonic (ms) */
export function createTwinWatch(now: () => number = () => performance.now()): TwinWatch {
  const sites = new Map<string, Seen>();
  let before = '';

  const isTwin = ({ twinAt }: Seen) => twinAt !== null && now() - twinAt < saidForMs;

  function stateOf(siteId: string, instance: string): 'none' | 'other' | 'wait' {
    const seen = sites.get(siteId);
    if (seen === undefined || !isTwin(seen) || seen.kept === null) return 'none';
    return seen.kept === instance ? 'other' : 'wait';
  }

  return {
    stateOf,
    isKeptOut: (siteId, instance) => stateOf(siteId, instance) === 'wait',
    has(siteId) {
      const seen = sites.get(siteId);
      return seen !== undefined && isTwin(seen);
    },
    see(siteId, instance) {
      const at = now();
      const seen = sites.get(siteId) ?? {
        ...{ heardAt: new Map<string, number>(), current: instance, twinAt: null, kept: null },
      };
      sites.set(siteId, seen);
      const isBack = seen.current !== instance && seen.heardAt.has(instance);
      const lastKeptAt = seen.kept === null ? undefined : seen.heardAt.get(seen.kept);
      if (isBack) {
        seen.twinAt = at;
        const both: readonly string[] = [instance, seen.current];
        // In the order in which they were first heard.
        if (lastKeptAt === undefined || at - lastKeptAt > goneAfterMs)
          seen.kept = [...seen.heardAt.keys()].find((one) => both.includes(one)) ?? instance;
      } else if (isTwin(seen) && seen.kept !== null && lastKeptAt !== undefined) {
        // The one that was kept is gone: who is left is the site.
        if (at - lastKeptAt > goneAfterMs) seen.kept = instance;
      }
      seen.current = instance;
      seen.heardAt.set(instance, at);
      for (const oldest of seen.heardAt.keys()) {
        if (seen.heardAt.size <= keptProcesses) break;
        if (oldest !== seen.kept) seen.heardAt.delete(oldest);
        else break;
      }
      return stateOf(siteId, instance);
    },
    changed() {
      const after = [...sites]
        .filter(([, seen]) => isTwin(seen))
        .map(([siteId]) => siteId)
        .join(' ');
      const isChanged = after !== before;
      before = after;
      return isChanged;
    },
  };
}
