/** What the coordinator asked for, in the audit trail: each thing once, and not without end. */
import type { Store } from '../store/store.ts';

export interface AskedLog {
  /** Writes an entry down unless one of the same key was. */
  write(key: string, action: 'approval-asked' | 'manifest-refused', details: Record<string, unknown>): void;
}

/** Who asks for thousands of different things must not fill the trail. That it stopped is written down itself. */
export const maxAsked = 1000;

/** Remembers for as long as the process runs. */
export function createAskedLog({ audit }: Pick<Store, 'audit'>): AskedLog {
  const written = new Set<string>();
  return {
    write(key, action, details) {
      if (written.has(key) || written.size > maxAsked) return;
      written.add(key);
      const entry =
        written.size > maxAsked
          ? { action: 'requests-not-listed', details: { after: maxAsked } }
          : { action, details };
      audit.append({ actor: 'coordinator', ...entry });
    },
  };
}
